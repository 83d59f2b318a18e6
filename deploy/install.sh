#!/bin/sh
# gemproxy as a service on a machine with systemd: `sudo make install`, `sudo make back`, `sudo make uninstall`.
# PYTHON names another Python than python3, EXTRAS what comes along (metrics,speed,gce; metrics alone if left out).
#
# Each build has a folder of its own, and `current` is a link to the one in use: nothing changes under a process that
# runs, and going back is moving the link. Every command may be given again at any time.
set -eu
umask 022 # the service's user must be able to read what root makes here
cd "$(dirname "$0")/.."

BUILDS=/opt/gemproxy
CURRENT=$BUILDS/current
CONFIG=/etc/gemproxy
UNITS=/etc/systemd/system
SYSUSERS=/etc/sysusers.d/gemproxy.conf
SAID=/run/gemproxy-check # what `check` printed
KEPT=3                  # builds, the one in use among them
PATIENCE=${PATIENCE:-90} # seconds for a successor to be ready

say() { echo "gemproxy: $*"; }

die() {
  echo "gemproxy: $*" >&2
  exit 1
}

booted() { [ -d /run/systemd/system ]; } # else: a chroot, or an image that is being built

current() { basename "$(readlink "$CURRENT" || echo none)"; }

builds() { # all of them, the newest first
  for each in "$BUILDS"/*; do
    if [ -e "$each/pyvenv.cfg" ] && [ ! -L "$each" ]; then basename "$each"; fi
  done | sort -t- -k2 -r
}

# ------------------------------------------------------------------------------------------------------------- building

build() { # make a build of this tree; say its name, or that of the one in use where nothing differs
  name=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' gemproxy/__init__.py)-$(date -u +%Y%m%dT%H%M%S)
  folder=$BUILDS/$name
  sources=$(mktemp -d) # pip leaves its own things beside what it installs from, and takes up old ones
  trap 'rm -rf "$sources" "$folder"' EXIT
  cp -R gemproxy config.example.toml systemd pyproject.toml requirements README.md LICENSE "$sources"
  make_venv "$folder" "$sources" >&2
  cp README.md config.example.toml "$folder"
  if [ "$(made_of "$folder")" = "$(made_of "$CURRENT")" ]; then
    current
    return # and the trap takes the new one away
  fi
  trap - EXIT
  rm -rf "$sources"
  echo "$name"
}

make_venv() { # make_venv FOLDER SOURCES
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "needs Python 3.11 or later; name one with PYTHON=…"
  case $("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
    /home/* | /root/* | /run/user/*) die "$PYTHON is in a home directory, where the service sees nothing; PYTHON=…" ;;
  esac
  "$PYTHON" -m venv "$1" || die "on Debian: apt install python3-venv"
  "$2/requirements/install.sh" "$1" "$EXTRAS" || exit 1
}

made_of() { # made_of FOLDER: our own files and every package with its version
  (cd "$1"/lib/python3*/site-packages/gemproxy && find . -name '*.pyc' -o -type f -exec sha256sum {} + | sort) 2>&1
  "$1/bin/python" -V 2>&1
  "$1/bin/python" -m pip freeze --exclude gemproxy 2>&1
}

prune() { # keep the newest, and what is still in use
  for old in $(builds | tail -n +$((KEPT + 1))); do
    if [ "$old" != "$(current)" ] && ! grep -qsF "$BUILDS/$old/" /proc/[0-9]*/maps; then rm -rf "${BUILDS:?}/$old"; fi
  done
}

# -------------------------------------------------------------------------------------------- around it, and its checks

place() { # the user, the units, and a configuration where there is none
  install -D -m 644 systemd/gemproxy.sysusers.conf "$SYSUSERS"
  systemd-sysusers "$SYSUSERS"
  install -d -m 755 "$CONFIG"
  [ -e "$CONFIG/gemproxy.toml" ] || install -m 640 -g gemproxy config.example.toml "$CONFIG/gemproxy.toml"
  [ -e "$CONFIG/environment" ] || install -m 600 /dev/null "$CONFIG/environment"
  install -D -m 644 -t "$UNITS" systemd/*.service systemd/*.socket
  ! booted || systemctl daemon-reload
}

checked() { # checked BUILD: whether the service would serve with it: its user, drop-ins and sandbox, but `check`
  unit=$(running | head -n 1)
  unit=${unit:-gemproxy.service}
  trial=gemproxy-check${unit#gemproxy}
  {
    systemctl cat "$unit" |
      sed -e "s#^ExecStart=.* serve #ExecStart=$BUILDS/$1/bin/gemproxy check #" -e '/^\(Restart\|StartLimit\)/d'
    printf '[Service]\nType=oneshot\nStandardOutput=file:%s\nStandardError=inherit\n' "$SAID"
  } >"/run/systemd/system/$trial"
  systemctl daemon-reload
  verdict=0
  systemctl start "$trial" 2>/dev/null || verdict=1
  if [ -s "$SAID" ]; then cat "$SAID"; else journalctl --unit "$trial" --lines 5 --output cat; fi
  rm -f "$SAID" "/run/systemd/system/$trial"
  systemctl daemon-reload
  systemctl reset-failed "$trial" 2>/dev/null || true
  return "$verdict"
}

# -------------------------------------------------------------------------------------------------- from one to another

running() { # the services that run now: the single one, or instances
  ! booted || systemctl list-units --plain --no-legend --state=active,reloading gemproxy.service 'gemproxy@*.service' |
    cut -d' ' -f1
}

move_link() { # move_link BUILD: at once, so that there is no moment without a link
  ln -sfn "$1" "$CURRENT.new"
  mv -T "$CURRENT.new" "$CURRENT"
}

hand_over() { # hand_over UNIT: to what the link names now; fails if the old process goes on, or none is left
  old=$(main_pid "$1")
  if ! hands_over "$old"; then
    say "$1 runs a version that cannot hand its sockets over: restarting it"
    systemctl restart "$1"
    return
  fi
  systemctl kill --kill-whom=main --signal=USR2 "$1" || return
  for _ in $(seq "$PATIENCE"); do
    sleep 1
    now=$(main_pid "$1")
    if [ "$now" != "$old" ]; then
      [ "$now" != 0 ] || return 1
      say "$1 goes on in a new process ($now); the old one ($old) ends when its answers have"
      return
    fi
  done
  return 1
}

main_pid() { systemctl show --property=MainPID --value "$1"; }

hands_over() { # hands_over PID: whether it has a handler for SIGUSR2 (signal 12); without one it would end
  caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status")
  [ $((0x${caught:-0} >> 11 & 1)) = 1 ]
}

use() { # use BUILD: move the link, and have all that runs go over to it, or none
  before=$(current)
  move_link "$1"
  say "$CURRENT is $1 (before: $before)"
  gone=
  for unit in $(running); do
    hand_over "$unit" || take_back "$unit"
    gone="$gone $unit"
  done
}

take_back() { # take_back UNIT: the one that did not come up
  say "$1 did not come up with $(current): back to $before; journalctl -u $1 says why" >&2
  [ "$before" = none ] || move_link "$before"
  for unit in $gone; do hand_over "$unit" || true; done
  systemctl start "$1" # unless the old process goes on
  exit 1
}

start() { # start BUILD: the port first, held by systemd; unless the configuration does not serve yet
  if [ -n "$(ls -d "$UNITS"/*.wants/gemproxy@* 2>/dev/null)" ]; then
    say "not started: it is instances that are enabled (gemproxy@…)"
  elif checked "$1"; then
    systemctl enable --now gemproxy.socket gemproxy.service
    say "it runs; systemd holds its port (gemproxy.socket) and starts it with the machine"
  else
    say "installed, but not started, for what is said above: see to it in $CONFIG/environment (GEMINI_API_KEY=…) or"
    say "$CONFIG/gemproxy.toml, then give this command again"
  fi
}

# ------------------------------------------------------------------------------------------------------------- commands

install_service() {
  built=$(build)
  if [ "$built" = "$(current)" ]; then
    say "$built is in use already, and nothing has changed since"
    place
  else
    if [ -n "$(running)" ] && ! checked "$built" >&2; then
      rm -rf "${BUILDS:?}/$built"
      die "not installed, and $(current) goes on: the new version would not serve, for what is said above"
    fi
    place
    use "$built"
    prune
  fi
  if ! booted; then
    say "nothing is started, since systemd does not run here"
  elif [ -z "$(running)" ]; then
    start "$built"
  fi
}

go_back() {
  older=$(builds | sed -n "/^$(current)\$/,\$p" | sed -n 2p)
  [ -n "$older" ] || die "there is no build before $(current)"
  [ -z "$(running)" ] || checked "$older" >&2 || die "$(current) goes on: $older would not serve"
  use "$older"
}

uninstall() {
  if booted; then
    systemctl stop gemproxy.socket 'gemproxy@*.socket' gemproxy.service 'gemproxy@*.service' 2>/dev/null || true
  fi
  rm -f "$UNITS"/*.wants/gemproxy.s* "$UNITS"/*.wants/gemproxy@* "$SYSUSERS"
  for unit in systemd/*.service systemd/*.socket; do rm -f "$UNITS/${unit#systemd/}"; done
  ! booted || systemctl daemon-reload
  for old in $(builds); do rm -rf "${BUILDS:?}/$old"; done
  rm -f "$CURRENT"
  [ ! -d "$BUILDS" ] || rmdir --ignore-fail-on-non-empty "$BUILDS"
  say "removed. Left, for you to keep or to remove: $CONFIG (settings and keys), /var/lib/gemproxy (state), what"
  say "\`systemctl edit\` wrote ($UNITS/gemproxy*.d), and the user gemproxy"
}

[ "$(id -u)" = 0 ] || die "this needs root: sudo make …"
PYTHON=${PYTHON:-python3}
EXTRAS=${EXTRAS:-metrics}
case ${1:-} in
  install) install_service ;;
  back) go_back ;;
  uninstall) uninstall ;;
  *) die "install, back or uninstall?" ;;
esac
