"""The manual pages: clean mdoc, complete, and true to the commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kisscluster.base import config
from kisscluster.base.exits import Exit
from kisscluster.decide.quorum import FACTS
from tests.lint.project import COMMANDS, MODULES, PAGES, ROOT, lint, section, text, tool

OVERVIEWS = ["kisscluster.7", "kisscluster.conf.5", "kisscluster-vm.5", "kisscluster-state.5"]
ORDER = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "ENVIRONMENT",
    "FILES",
    "EXIT STATUS",
    "EXAMPLES",
    "SEE ALSO",
]
MEANING = {
    Exit.OK: "yes, or done, or already so",
    Exit.NO: "no",
    Exit.USAGE: "usage",
    Exit.UNAVAILABLE: "something needed is not available",
    Exit.BUG: "bug",
    Exit.AGAIN: "stale or busy, try again",
    Exit.PERMISSION: "permission",
    Exit.CONFIG: "configuration",
    Exit.NO_QUORUM: "no quorum",
    Exit.UNSAFE: "unsafe, needs --force",
    Exit.CANNOT_TELL: "cannot tell",
    Exit.TIMEOUT: "timed out",
}
# answers in DRBD's codes
FOREIGN = {"kc-fence-peer"}

# what `man` shows of a line of .Dl on a terminal of 80 columns; the rest would be pasted as a line of its own
WIDTH = 67

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
each_command = pytest.mark.parametrize("command", COMMANDS)


def man(command: str) -> Path:
    return ROOT / "man" / f"{command}.8"


def items(source: str, macro: str) -> list[str]:
    """What the list items of a section name: `.It MACRO NAME`."""
    return re.findall(rf"^\.It {macro} (\S+)", source, re.M)


def shown_options(usage: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])(-[A-Za-z]|--[a-z][a-z-]*)(?![\w-])", usage))


def documented_options(page: Path) -> set[str]:
    """What `.It Fl n , Fl -dry-run` and its like name in OPTIONS."""
    heads = re.findall(r"^\.It (Fl .*)", section(page, "OPTIONS"), re.M)
    return {f"-{name}" for head in heads for name in re.findall(r"\bFl (\S+)", head)}


def test_every_command_has_its_page_and_nothing_else_has() -> None:
    assert [page.name for page in PAGES] == sorted(OVERVIEWS + [f"{command}.8" for command in COMMANDS])


@each_page
def test_an_example_can_be_pasted(page: Path) -> None:
    lines = [re.sub(r"\\\(..|\\e", "x", line) for line in re.findall(r"^\.Dl (.*)$", text(page), re.M)]
    assert not [line for line in lines if len(line) > WIDTH]


@each_page
def test_mandoc_lint(page: Path) -> None:
    talk = lint(tool("mandoc"), "-T", "lint", "-W", "warning", page).splitlines()
    own = re.compile(r"referenced manual not found: Xr (kc-\S+|kisscluster\S*)")
    assert not [line for line in talk if not own.search(line)]


@each_page
def test_groff_has_no_warning(page: Path) -> None:
    """As lintian calls it."""
    done = subprocess.run(
        [tool("man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")


@each_page
def test_cross_references_exist(page: Path) -> None:
    own = re.findall(r"\bXr (kc-\S+|kisscluster\S*) (\d)", text(page))
    known = {other.name for other in PAGES}
    assert not [name for name, number in own if f"{name}.{number}" not in known]


@each_command
def test_sections_are_in_order(command: str) -> None:
    assert re.findall(r"^\.Sh (.*)", text(man(command)), re.M) == ORDER


@each_command
def test_help_and_page_name_the_same_options(command: str) -> None:
    usage = lint(ROOT / "bin" / command, "--help")
    assert usage.lower().startswith("usage:"), usage
    assert shown_options(usage) == documented_options(man(command))


@each_command
def test_exit_status_is_in_the_one_table(command: str) -> None:
    numbers = {int(number) for number in re.findall(r"^\.It (\d+)", section(man(command), "EXIT STATUS"), re.M)}
    assert numbers
    if command not in FOREIGN:
        assert numbers <= set(Exit)
        assert {Exit.OK, Exit.USAGE, Exit.BUG} <= numbers


def test_overview_has_the_one_table() -> None:
    rows = re.findall(r"^\.It (\d+)\n(.*)", section(ROOT / "man/kisscluster.7", "EXIT STATUS"), re.M)
    assert {int(number): meaning.rstrip(".") for number, meaning in rows} == {int(k): v for k, v in MEANING.items()}
    assert set(MEANING) == set(Exit)


def test_overview_lists_every_command() -> None:
    assert set(re.findall(r"\bXr (kc-\S+) 8", text("man/kisscluster.7"))) == set(COMMANDS)


def test_configuration_pages_document_every_key() -> None:
    conf = items(text("man/kisscluster.conf.5"), "Ic")
    assert sorted(conf) == sorted([*config.CLUSTER, *config.NODE])
    assert sorted(items(text("man/kisscluster-vm.5"), "Ic")) == sorted(config.VM)


@pytest.mark.parametrize(
    "page,known",
    [("kisscluster.conf.5", {**config.CLUSTER, **config.NODE}), ("kisscluster-vm.5", config.VM)],
)
def test_configuration_pages_tell_the_defaults(page: str, known: dict[str, tuple[str, str]]) -> None:
    source = text(f"man/{page}")
    for key, (check, _) in known.items():
        default = re.search(r"default='?([^')]+)'?\)", check)
        entry = re.search(rf"^\.It Ic {key}\b.*?\n(.*?)(?=^\.It |^\.El)", source, re.M | re.S)
        assert entry
        if default and default[1] != "list(":
            assert re.search(rf"[Dd]efault:?\s+(is )?(\.?(Cm|Li|Ic) )?{re.escape(default[1])}\b", entry[1]), key


@each_command
def test_help_and_page_name_the_same_timeout(command: str) -> None:
    shown = re.search(r"\(default ([\d.]+)\)", lint(ROOT / "bin" / command, "--help"))
    told = re.search(r"^\.It Fl -timeout .*?^Default: ([\d.]+)\.$", text(man(command)), re.M | re.S)
    assert shown and told and shown[1] == told[1]


def test_facts_to_be_supposed_are_documented() -> None:
    (supposed,) = re.findall(r"^\.It Fl -what-if .*?(?=^\.It )", section(man("kc-quorum"), "OPTIONS"), re.M | re.S)
    words = {word for line in re.findall(r"^\.Cm (.+)", supposed, re.M) for word in re.findall(r"\w[\w.]*", line)}
    assert words == {*FACTS, *(value for values in FACTS.values() for value in values)}
    (row,) = re.findall(r"^\| kc-quorum \|.*--what-if.*", text("docs/design.md"), re.M)
    assert not {name for name in FACTS if not re.search(rf"[ ,]{re.escape(name)}[ ,]", row)}


def test_every_environment_variable_is_documented() -> None:
    used = {name for path in MODULES for name in re.findall(r"\bKC_[A-Z_]+", text(path))}
    assert used
    assert used == {name for page in PAGES for name in re.findall(r"\bKC_[A-Z_]+", text(page))}
    assert used == set(re.findall(r"\bKC_[A-Z_]+", text("docs/testing.md"))) - {"KC_LAB_DIR"}
