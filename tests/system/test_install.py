"""gemproxy as a service on a bare Debian: README's shell blocks as they stand, reload, instances, upgrade, removal.

systemd is real, and runs in a container (``debian.py``). What stands in README is run by a user with sudo; only the
key, the settings and the upstream are the test's own.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import debian
from tests.system.conftest import find
from tests.system.debian import REPOSITORY, Machine

pytestmark = pytest.mark.timeout(900)

README = (REPOSITORY / "README.md").read_text()
HERE = Path(__file__).parent
NAME = "gemproxy.test"
VARIABLES = {"REPOSITORY": "/srv/repository", "KEY": "placeholder", "NAME": NAME}
SERVICE = "Running it as a service"
CURRENT = "readlink /opt/gemproxy/current"
ASK = (
    "curl -sS --fail-with-body --max-time 60 http://127.0.0.1:8080/v1/chat/completions -H 'Authorization: Bearer x' "
    """-d '{"model": "gemini-3.5-flash", "stream": true, "messages": [{"role": "user", "content": "%s"}]}'"""
)
UPSTREAM = """
sed -i 's#^ai_studio_url = .*#ai_studio_url = "http://127.0.0.1:9999/v1beta"#' /etc/gemproxy/gemproxy.toml
cat > /etc/systemd/system/upstream.service <<'END'
[Service]
ExecStart=/home/ada/gemproxy/.venv/bin/python /srv/upstream.py
[Install]
WantedBy=multi-user.target
END
systemctl enable --now upstream
"""
CERTIFICATE = f"""
cp /etc/gemproxy/gemproxy.toml /root/before.toml
echo 127.0.0.1 {NAME} >> /etc/hosts
mkdir -p /etc/letsencrypt/live/{NAME}; cd /etc/letsencrypt/live/{NAME}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={NAME} \\
  -addext subjectAltName=DNS:{NAME} -keyout privkey.pem -out fullchain.pem
cp fullchain.pem /usr/local/share/ca-certificates/mine.crt; update-ca-certificates
"""
MY_KEY = """$(sudo sed -n 's/^keys = \\["\\(.*\\)"\\]/\\1/p' /etc/gemproxy/gemproxy.toml)"""
WITHOUT_NGINX = """
cp /root/before.toml /etc/gemproxy/gemproxy.toml; systemctl reload gemproxy; systemctl disable --now nginx
"""


def blocks() -> dict[str, list[str]]:
    """Return README's shell blocks by the heading that they stand under."""
    found: dict[str, list[str]] = {}
    for section in README.split("\n## ")[1:]:
        heading = section.split("\n")[0]
        if texts := re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
            found[heading] = [text.replace("GEMINI_API_KEY=…", "GEMINI_API_KEY=test-key-1 ") for text in texts]
    return found


class Story:
    """A reader goes through README from top to bottom; what the blocks printed, and when the first answer came."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.blocks, self.printed = machine, blocks(), dict[str, str]()
        self._began = time.monotonic()
        self.times: dict[str, float] = {}
        machine.run("sudo apt-get update -q")
        self._while_serving("Try it in a minute", 0, self.blocks["Try it in a minute"][1])
        self._while_serving("With the real Gemini", 0, "curl -sS http://127.0.0.1:8080/health")
        self._service()
        self._block("At three in the morning", 0)

    def _while_serving(self, heading: str, number: int, script: str) -> None:
        """Run a block that goes on until Ctrl-C, and another one beside it once it listens."""
        serving = self.machine.start(self._in_clone(self.blocks[heading][number]), **VARIABLES)
        try:
            listens = "for _ in $(seq 2000); do curl -sf http://127.0.0.1:8080/health >&2 && break; sleep 0.1; done\n"
            self.printed[heading] = self.machine.run(listens + self._in_clone(script)).stdout
        finally:
            self.machine.root_run("kill -INT $(pidof -x gemproxy)")
            serving.wait(60)
        self._tick(heading)

    def _service(self) -> None:
        self._block(SERVICE, 0)
        shutil.copy(HERE / "upstream.py", self.machine.root / "srv/upstream.py")
        self.machine.root_run(UPSTREAM + "echo GEMINI_API_KEY=test-key-1 >> /etc/gemproxy/environment")
        self._block(SERVICE, 1)
        self.printed["first answer"] = self.machine.run(ASK % 3).stdout
        self._tick("the first answer of the service")
        self.machine.root_run(CERTIFICATE)
        self._block(SERVICE, 2)
        asked = (ASK % 3).replace("http://127.0.0.1:8080", f"https://{NAME}")
        asked = asked.replace("'Authorization: Bearer x'", "@me")
        self.printed["over TLS"] = self.machine.run(f'echo "Authorization: Bearer {MY_KEY}" > me; {asked}').stdout
        self._tick("the first answer through nginx with TLS")
        self.machine.root_run(WITHOUT_NGINX)

    def _block(self, heading: str, number: int) -> None:
        done = self.machine.run(self._in_clone(self.blocks[heading][number]), **VARIABLES)
        self.printed[f"{heading} {number}"] = done.stdout + done.stderr
        self._tick(f"{heading}, block {number + 1}")

    def _in_clone(self, script: str) -> str:
        return script if "git clone" in script else f"cd gemproxy\n{script}"

    def _tick(self, what: str) -> None:
        self.times[what] = time.monotonic() - self._began


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("mounting and booting take root")
    machine = Machine(tmp_path_factory.mktemp("bare"), [debian.tree(find)])
    try:
        debian.furnish(machine)
        machine.boot(find)
        told = Story(machine)
        machine.halt()
        yield told
    finally:
        machine.scrap()


@pytest.fixture
def machine(story: Story, tmp_path: Path) -> Iterator[Machine]:
    """Another machine with what the story has left on the disk, just booted."""
    another = Machine(tmp_path, [story.machine.upper, *story.machine.layers])
    try:
        another.boot(find)
        yield another
    finally:
        another.scrap()


# -------------------------------------------------------------------------------------------------------------- README


def test_readme_holds_on_a_bare_debian(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        for what, seconds in story.times.items():
            print(f"\n  {seconds:5.0f} s  {what}", end="")
    assert '"finish_reason":"stop"' in story.printed["Try it in a minute"]
    assert '"status":"ok"' in story.printed["With the real Gemini"]
    assert '"status":"ready"' in story.printed[f"{SERVICE} 1"]
    assert story.printed["first answer"].rstrip().endswith("data: [DONE]")
    assert '"status":"ready"' in story.printed[f"{SERVICE} 2"]
    assert story.printed["over TLS"].rstrip().endswith("data: [DONE]")
    night = story.printed["At three in the morning 0"]
    assert ("listens on" in night, '"status":"ready"' in night, '"state"' in night) == (True, True, True), night


def test_every_block_of_readme_is_run() -> None:
    counts = {heading: len(texts) for heading, texts in blocks().items()}
    assert counts == {"Try it in a minute": 2, "With the real Gemini": 1, "At three in the morning": 1, SERVICE: 3}


def test_without_a_key_it_is_installed_and_says_what_is_missing(story: Story) -> None:
    said = story.printed[f"{SERVICE} 0"]
    assert "no credential: set GEMINI_API_KEY" in said
    assert "installed, but not started" in said


def test_it_starts_with_the_machine_and_systemd_holds_its_port(machine: Machine) -> None:
    machine.root_run("systemctl is-active gemproxy.socket gemproxy.service && systemctl stop gemproxy.service")
    assert "data: [DONE]" in machine.run(ASK % 1).stdout  # the connection starts it again


# -------------------------------------------------------------------------------------------------------------- reload


def test_a_reload_of_a_broken_file_fails_and_says_why(machine: Machine) -> None:
    machine.root_run("cp /etc/gemproxy/gemproxy.toml /root/; echo '[nonsense]' >> /etc/gemproxy/gemproxy.toml")
    assert machine.root_run("systemctl reload gemproxy", check=False).returncode != 0
    assert "nonsense" in machine.root_run("journalctl -u gemproxy -n 20 -o cat").stdout
    assert "data: [DONE]" in machine.run(ASK % 1).stdout
    machine.root_run("sed 's/^keys = .*/keys = [\"sk-test\"]/' /root/gemproxy.toml > /etc/gemproxy/gemproxy.toml")
    machine.root_run("systemctl reload gemproxy")
    assert "invalid_api_key" in machine.run(f"for _ in 1 2 3 4 5; do {ASK % 1} || exit 0; sleep 1; done").stdout


def test_a_reload_finds_the_secrets_that_systemd_loads(machine: Machine) -> None:
    machine.root_run("""
        install -d -m 700 /etc/gemproxy/secrets; echo test-key-2 > /etc/gemproxy/secrets/studio-key
        printf '[[credentials]]\nkind = "api_key"\nname = "studio"\nkey_file = "studio-key"\n' > /tmp/more
        cat /tmp/more >> /etc/gemproxy/gemproxy.toml
        mkdir /etc/systemd/system/gemproxy.service.d
        printf '[Service]\nLoadCredential=studio-key:/etc/gemproxy/secrets/studio-key\n' \
          > /etc/systemd/system/gemproxy.service.d/override.conf
        systemctl daemon-reload; systemctl restart gemproxy; systemctl reload gemproxy""")
    assert "data: [DONE]" in machine.run(ASK % 1).stdout


# ----------------------------------------------------------------------------------------------------------- instances


def test_two_instances_share_a_port_and_have_metrics_of_their_own(machine: Machine) -> None:
    bullet = README.split("- **More than one core**: ")[1].split("\n- **")[0]
    away, on = re.findall(r"`(systemctl (?:dis|en)able [^`]+)`", re.sub(r"\s+", " ", bullet))
    machine.root_run("sed -i 's/^#metrics_listen/metrics_listen/' /etc/gemproxy/gemproxy.toml")
    machine.root_run(r"""printf '#!/bin/sh\nprintf "[Service]\\nEnvironment=MINE=1\\n" > "$1"\n' > /root/edit""")
    machine.root_run("chmod +x /root/edit; script -qec 'SYSTEMD_EDITOR=/root/edit systemctl edit gemproxy@' /dev/null")
    machine.root_run(f"{away}; {on}")
    for number in (1, 2):
        assert "MINE=1" in machine.root_run(f"systemctl show -P Environment gemproxy@{number}").stdout
        assert "gemproxy_open_requests" in machine.run(f"curl -sS http://127.0.0.1:909{number}/metrics").stdout
    for _ in range(4):
        assert "data: [DONE]" in machine.run(ASK % 1).stdout
    machine.root_run("systemctl reload gemproxy@1 gemproxy@2")


# ------------------------------------------------------------------------------------------------------------- upgrade


def install(machine: Machine, change: str) -> tuple[int, str]:
    """Change the clone and give the command again; returns how it ended and what it said."""
    done = machine.run(f"cd gemproxy; {change}; sudo PATIENCE=20 make install", check=False)
    return done.returncode, done.stdout + done.stderr


def builds(machine: Machine) -> set[str]:
    return set(machine.run("cd /opt/gemproxy; ls -d */ | grep -v current").stdout.replace("/", "").split())


def runs(machine: Machine) -> str:
    """Return the build that the service's process runs, by what it has mapped."""
    maps = machine.root_run("cat /proc/$(systemctl show -P MainPID gemproxy)/maps").stdout
    (build,) = set(re.findall(r"/opt/gemproxy/([^/]+)/lib", maps))
    return build


def test_an_upgrade_loses_nothing_and_the_way_back_neither(machine: Machine) -> None:
    first = machine.run(CURRENT).stdout.strip()
    for year in range(2001, 2005):
        machine.root_run(f"cd /opt/gemproxy; mkdir 0.0.1-{year}0101T000000; touch 0.0.1-{year}0101T000000/pyvenv.cfg")
    asking = machine.start(f"while [ ! -e /tmp/enough ]; do {ASK % 1} | tail -n 2; sleep 0.1; done")
    stream = machine.start(ASK % 400)  # for 40 s
    code, said = install(machine, "echo '# newer' >> gemproxy/__init__.py")
    second = machine.run(CURRENT).stdout.strip()
    assert (code, second > first, runs(machine)) == (0, True, second), said
    assert builds(machine) == {first, second, "0.0.1-20040101T000000"}
    machine.run("cd gemproxy; sudo make back; touch /tmp/enough")
    assert runs(machine) == machine.run(CURRENT).stdout.strip() == first
    words = stream.communicate()[0].decode()
    assert (words.count("word "), words.rstrip().endswith("data: [DONE]")) == (401, True), words[-300:]
    asked = asking.communicate()[0].decode()
    assert "curl" not in asked
    assert asked.count("data: [DONE]") > 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(
            "sed -i 's/^def _check.*/&\\n    return FAILED/' gemproxy/cli.py", "would not serve", id="one that knows it"
        ),
        pytest.param(
            "echo 'raise SystemExit(1)' >> gemproxy/process/serve.py", "did not come up", id="one that does not"
        ),
    ],
)
def test_a_version_that_cannot_serve_takes_nothing_over(machine: Machine, change: str, why: str) -> None:
    first = machine.run(CURRENT).stdout.strip()
    code, said = install(machine, change)
    assert (code != 0, why in said) == (True, True), said
    assert machine.run(CURRENT).stdout.strip() == runs(machine) == first
    assert "data: [DONE]" in machine.run(ASK % 1).stdout


# -------------------------------------------------------------------------------------------------------------- removal


def test_uninstalling_leaves_what_is_the_operators_and_can_be_given_twice(machine: Machine) -> None:
    machine.root_run("touch /var/lib/gemproxy/kept")
    for _ in range(2):
        assert "Left" in machine.run("cd gemproxy; sudo make uninstall").stdout
    assert not (machine.root / "opt/gemproxy").exists()
    assert [*(machine.root / "etc").glob("**/gemproxy*.s*")] == []
    assert "active" not in machine.root_run("systemctl is-active gemproxy.socket gemproxy", check=False).stdout.split()
    assert "test-key-1" in (machine.root / "etc/gemproxy/environment").read_text()
    assert (machine.root / "var/lib/gemproxy/kept").exists()
    code, said = install(machine, "true")
    assert (code, "it runs" in said) == (0, True), said
    assert "127.0.0.1:9999" in (machine.root / "etc/gemproxy/gemproxy.toml").read_text()
    assert "data: [DONE]" in machine.run(ASK % 1).stdout
