#!/bin/sh
# Put gemproxy into an environment, with the packages that the lock files here name and no others; each is checked by
# its hash, so that one tag installs the same on any two days:
#
#   requirements/install.sh ENVIRONMENT EXTRAS [--editable]        EXTRAS: metrics,speed; nothing: ""
#
# An index of your own is named as pip has it (PIP_INDEX_URL). Where a package has no wheel for your machine, the
# variable PIP_ONLY_BINARY, set to nothing, lets pip build it from source, with tools that nobody pinned.
set -eu
python=$1/bin/python
extras=$(echo "$2" | tr ',' ' ')
editable=${3:-}
locks=$(cd "$(dirname "$0")" && pwd)

PIP_ONLY_BINARY=${PIP_ONLY_BINARY-:all:}
export PIP_ONLY_BINARY

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() {
  printf 'gemproxy: %s\n' "$@" >&2
  exit 1
}

explained() { # why pip could not, in our words below its own
  cat "$work/said" >&2
  if grep -q 'DO NOT MATCH THE HASHES\|Hashes are required' "$work/said"; then
    die "the index serves other files than those that were locked, or names no hashes: ask who runs it, before you trust" \
      "it. \`make lock\` makes $locks anew from an index of yours (UV_DEFAULT_INDEX=address)."
  elif grep -q 'No matching distribution' "$work/said"; then
    die "the index lacks a version that is locked, its wheel for this machine, or cannot be reached. \`make lock\` makes" \
      "$locks anew from an index of yours (UV_DEFAULT_INDEX=address); without a wheel, set PIP_ONLY_BINARY= (nothing)."
  fi
  die "the packages could not be installed"
}

fetch() { # fetch OPTION…: what the registry serves, each file by its hash. The network may fail once or twice.
  for pause in 1 2 0; do
    if "$python" -m pip install --quiet --disable-pip-version-check --require-hashes "$@" 2>"$work/said"; then return; fi
    ! grep -q 'DO NOT MATCH THE HASHES\|Hashes are required' "$work/said" || break
    sleep "$pause"
  done
  explained
}

set --
for extra in ${extras:-run}; do # each file begins with those that it adds to
  [ -e "$locks/$extra.txt" ] || die "there is no extra \"$extra\"; there are metrics, speed and gce"
  set -- "$@" --requirement "$locks/$extra.txt"
done
fetch "$@"

# What builds the project stays out of the environment. The project itself comes from here alone, without an index.
fetch --target "$work/build" --requirement "$locks/build.txt"
PYTHONPATH=$work/build "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
  --no-build-isolation ${editable:+"$editable"} "$locks/.."
