"""What is written agrees with what is built: settings, example file, README, changelog, Makefile."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import typing
from pathlib import Path

import msgspec
import pytest

from gemproxy.config import Config, load, reading, rules
from gemproxy.config.secret import ABSENT
from gemproxy.config.sections import Client, Credential
from gemproxy.operations.metrics import Metrics
from gemproxy.server.access_log import fields
from gemproxy.server.context import Context
from gemproxy.server.handlers.health import ENDPOINTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / "config.example.toml").read_text()
REQUIRED = "required"
UNSET = "unset"


def default_of(field: msgspec.structs.FieldInfo) -> object:
    """Return a field's default: None if it is unset, REQUIRED if there is none."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    if field.default is msgspec.NODEFAULT:
        return REQUIRED
    return None if field.default is ABSENT else field.default


def fields_of(prefix: str, struct: type[msgspec.Struct]) -> dict[str, list[object]]:
    """Return the dotted name of every field with its default."""
    return {f"{prefix}.{field.name}": [default_of(field)] for field in msgspec.structs.fields(struct)}


def settings() -> dict[str, list[object]]:
    """Return every setting with its defaults: more than one where kinds of credentials differ."""
    found: dict[str, list[object]] = {"credentials[].kind": [REQUIRED]}
    for section, struct in typing.get_type_hints(Config).items():
        if section != "credentials":
            found |= fields_of(section, struct)
    del found["auth.clients"]
    found |= fields_of("auth.clients[]", Client)
    for kind in typing.get_args(Credential):
        for key, defaults in fields_of("credentials[]", kind).items():
            found[key] = found.get(key, []) + defaults
    return found


def as_toml(value: object) -> str:
    """Return a default as the README writes it."""
    if value is None:
        return UNSET
    return value if value == REQUIRED else f"`{msgspec.json.format(msgspec.json.encode(value), indent=0).decode()}`"


def rows(head: str) -> list[list[str]]:
    """Return the rows of the README's table with this head line."""
    table = README.split(f"\n{head}\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")[1:]]


def table_of_settings() -> dict[str, str]:
    """Return the README's table: key and default; a cell may hold several keys with one default or one each."""
    found = {}
    for keys, default, _ in rows("| key | default | meaning |"):
        names = re.findall(r"`([^`]+)`", keys)
        defaults = re.split(r"(?<=[`t]), (?=[`u])", default)
        for place, name in enumerate(names):
            assert name not in found, f"{name} is in the table twice"
            found[name] = defaults[place] if len(defaults) == len(names) else default
    return found


def test_the_readme_lists_every_setting_and_no_other() -> None:
    assert sorted(table_of_settings()) == sorted(settings())


def test_the_readme_gives_the_true_default() -> None:
    told = table_of_settings()
    wrong = [key for key, values in settings().items() if told[key] not in {as_toml(value) for value in values}]
    assert wrong == []


def read(text: str) -> Config:
    found = reading.draft(text.encode())
    assert not found.faults
    return found.config


def test_the_example_holds_the_defaults() -> None:
    assert read(EXAMPLE) == Config()


def test_the_example_runs_as_it_is() -> None:
    config = load(ROOT / "config.example.toml", {"GEMINI_API_KEY": "test-key-1"})
    assert [credential.name for credential in config.credentials] == ["studio-1"]


def lines_of_the_example(commented: bool) -> set[str]:
    """Return the settings of the example by their dotted names."""
    found, section = set(), ""
    for line in EXAMPLE.split("\n"):
        text = line.removeprefix("#")
        if head := re.fullmatch(r"(\[\[?)([a-z.]+)\]\]?", text):
            section = head[2] + ("[]" if head[1] == "[[" else "")
        elif (key := re.match(r"([a-z_]+) = ", text)) and commented == line.startswith("#"):
            found.add(f"{section}.{key[1]}")
    return found


def test_the_example_shows_every_setting_and_no_other() -> None:
    assert lines_of_the_example(commented=True) | lines_of_the_example(commented=False) == set(settings())


def test_the_example_leaves_out_only_what_has_no_default() -> None:
    entries = {key for key in settings() if "[]" in key}
    unset = {key for key, defaults in settings().items() if defaults == [None]}
    assert lines_of_the_example(commented=True) == entries | unset


@functools.cache
def sources() -> str:
    """Return the whole program but the Structs of the configuration, which name every setting."""
    return "".join(path.read_text() for path in (ROOT / "gemproxy").rglob("*.py") if path.name != "sections.py")


def test_a_setting_is_read_somewhere() -> None:
    read = set(re.findall(r"\.(\w+)\b", sources()))
    unread = [key for key in settings().keys() - {"credentials[].kind"} if key.rpartition(".")[2] not in read]
    assert unread == [], "a setting that does nothing is a lie"


def uncommented() -> Config:
    """Return the example with every commented setting and block put to use (the secrets are not looked up)."""
    return read(re.sub(r"^#(?=\[\[|[a-z_]+ = )", "", EXAMPLE, flags=re.MULTILINE))


def test_the_commented_settings_of_the_example_can_be_used() -> None:
    config = uncommented()
    assert [credential.name for credential in config.credentials] == ["studio-1", "team-1", "vertex-1"]
    assert [client.name for client in config.auth.clients] == ["ci"]
    assert rules.address(config.server.metrics_listen or "") == ("127.0.0.1", 9090)


def test_the_blocks_of_the_example_hold_the_defaults() -> None:
    shown = {"name", "file", "key", "key_env", "key_file"}  # what must be given, and the ways to give it
    for entry in [*uncommented().credentials, *uncommented().auth.clients]:
        for field in msgspec.structs.fields(type(entry)):
            if field.name not in shown:
                assert getattr(entry, field.name) == default_of(field), field.name


def codes_in_the_source() -> set[str]:
    """Return every literal that is given as an error's ``code``."""
    found = set()
    for path in (ROOT / "gemproxy").rglob("*.py"):
        if path.relative_to(ROOT / "gemproxy").parts[0] in {"simulator", "wire"}:  # what Google and OpenAI say
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code":
                given = [part for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                found |= {part.value for part in given if isinstance(part.value, str) and part.value}
    return found


def test_the_readme_explains_every_error_code() -> None:
    explained = {
        code for row in rows("| status | code | what to do |") for code in re.findall(r"`([a-z0-9_]+)`", row[1])
    }
    assert explained == codes_in_the_source()


def routes() -> set[str]:
    """Return the paths of the list of endpoints that ``GET /`` shows."""
    found, waiting = set(), [*ENDPOINTS.values()]
    for value in waiting:
        waiting += value.values() if isinstance(value, dict) else []
        found |= {value} if isinstance(value, str) else set()
    return found


def test_the_readme_lists_every_endpoint() -> None:
    listed = {path for row in rows("| route | key | answers |") for path in re.findall(r"`[A-Z]+ ([^`]+)`", row[0])}
    assert listed - {"/", "/v1/models/{id}"} == routes()


def test_the_readme_names_every_metric() -> None:
    kinds = {family.name: family.type for family in Metrics(list, int).collect()}
    names = {name + ("_total" if kind == "counter" else "") for name, kind in kinds.items()}
    assert set(re.findall(r"`(gemproxy_[a-z_]+)`", README)) == names


def test_the_readme_names_every_field_of_a_log_line() -> None:
    told = README.split("A request's log line: ")[1].split(" is none.")[0]
    assert re.findall(r"`([a-z_]+)`", told) == list(fields(Context("", float, 0, "GET", "/"), 0))


def test_the_readme_names_every_option() -> None:
    options = re.findall(r"--[a-z][a-z-]+", (ROOT / "gemproxy/cli.py").read_text())
    listed = {option for row in rows("| command | does |") for option in re.findall(r"--[a-z][a-z-]+", row[0])}
    assert listed == set(options)


def test_the_tests_that_the_security_page_names_exist() -> None:
    table = (ROOT / "SECURITY.md").read_text().split("| threat | defence | tests |\n")[1].split("\n\n")[0]
    named = [name for line in table.split("\n")[1:] for name in re.findall(r"`([^`]+)`", line.split(" | ")[2])]
    assert named
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_python_of_the_readme_is_python() -> None:
    assert blocks("python")
    for text in blocks("python"):
        ast.parse(text)


def test_the_shell_of_the_readme_is_shell() -> None:
    assert blocks("sh")
    for text in blocks("sh"):
        subprocess.run(["/bin/sh", "-n"], input=text.replace("…", "x"), text=True, check=True, timeout=10)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/architecture.md", "docs/protocol.md"]
)
def test_a_link_within_the_tree_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "config.example.toml", "SECURITY.md", "docs/architecture.md"]
)
def test_a_setting_that_a_page_mentions_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    sections = "|".join(Config.__struct_fields__)
    known = {key.replace("[]", "") for key in settings()}
    mentioned = set(re.findall(rf"`((?:{sections})\.[a-z_]+(?:\.[a-z_]+)?)(?: = [^`]*)?`", text))
    assert {key for key in mentioned if key not in known} == set()


@pytest.mark.parametrize("page", ["architecture", "protocol"])
def test_a_section_that_a_comment_cites_exists(page: str) -> None:
    head = r"^(?:##+ |- \*\*)((?:\d+(?:\.\d+)*)|S(?:\.[A-Z]|\d+))"
    known = set(re.findall(head, (ROOT / "docs" / f"{page}.md").read_text(), re.MULTILINE))
    cited: set[str] = set()
    for folder in ("gemproxy", "tests", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            cited |= set(re.findall(rf"docs/{page}\.md\s+(\d+(?:\.\d+)*|S\d+|S\.[A-Z]\b)", path.read_text()))
    assert cited != set()
    assert cited - known == set()
