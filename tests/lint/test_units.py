"""The systemd units: what systemd itself says about them, and that both sides of every name agree."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.lint.project import COMMANDS, LIB, PAGES, ROOT, UNITS, lint, text, tool

NAMES = {unit.name for unit in UNITS}
# kc-vm@web1.service, kc-vm@VM.service and "kc-vm@{vm}.service" are all instances of kc-vm@.service
UNIT = re.compile(r"\b(kc-[a-z-]+@?|kisscluster)(?:\{[^}]*\}|[A-Za-z0-9_%$]*)\.(service|path|timer|target)\b")
MENTIONS = [
    *LIB.rglob("*.py"),
    *UNITS,
    *PAGES,
    *(ROOT / "completions").glob("*"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "README.md",
    ROOT / "debian/rules",
    ROOT / "debian/kisscluster.prerm",
]


def values(unit: Path, key: str) -> list[str]:
    """All words that a unit assigns to a key."""
    return " ".join(re.findall(rf"^{key}=(.*)", text(unit), re.M)).split()


def named_units(path: Path) -> set[str]:
    return {f"{stem}.{kind}" for stem, kind in UNIT.findall(text(path))}


def test_there_are_units() -> None:
    assert {"kisscluster.target", "kc-heartbeat.service", "kc-vm@.service"} <= NAMES


def test_systemd_analyze_verify(tmp_path: Path) -> None:
    for unit in UNITS:
        source = text(unit).replace("/usr/bin/kc-", f"{ROOT}/bin/kc-")
        (tmp_path / unit.name).write_text(source, encoding="utf-8")
    copies = sorted(tmp_path.iterdir())
    talk = lint(tool("systemd-analyze"), "verify", "--man=no", *copies).splitlines()
    assert not [line for line in talk if str(tmp_path) in line or "kc-" in line or "kisscluster" in line]


@pytest.mark.parametrize("path", MENTIONS, ids=lambda path: path.name)
def test_every_unit_named_exists(path: Path) -> None:
    assert named_units(path) <= NAMES


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_is_documented(unit: Path) -> None:
    pages = {f"man:{page.stem}({page.suffix[1:]})" for page in PAGES}
    documentation = values(unit, "Documentation")
    assert documentation
    assert set(documentation) <= pages


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_calls_commands_that_exist(unit: Path) -> None:
    assert set(re.findall(r"/usr/bin/(kc-[a-z-]+)", text(unit))) <= set(COMMANDS)


def test_only_the_target_is_installed() -> None:
    assert [unit.name for unit in UNITS if "[Install]" in text(unit)] == ["kisscluster.target"]


@pytest.mark.parametrize("unit", [u for u in UNITS if u.suffix == ".service"], ids=lambda unit: unit.name)
def test_service_that_runs_to_its_end_has_a_deadline(unit: Path) -> None:
    """A oneshot's start timeout is infinite by default (FACTS 2.3)."""
    if values(unit, "Type") == ["oneshot"]:
        assert values(unit, "TimeoutStartSec"), "TimeoutStartSec= is missing"


@pytest.mark.parametrize("unit", [u for u in UNITS if u.suffix == ".path"], ids=lambda unit: unit.name)
def test_path_unit_waits_for_a_flag_that_its_service_removes_first(unit: Path) -> None:
    """PathChanged= loses changes while its service runs, a start limit stops the path unit (FACTS 2.1)."""
    (flag,) = values(unit, "PathExists")
    assert re.fullmatch(r"/run/kisscluster/wake/[a-z]+", flag)
    assert not re.search(r"^(PathChanged|PathModified)=", text(unit), re.M)
    assert values(unit, "TriggerLimitIntervalSec") == ["0"]
    service = ROOT / "systemd" / (values(unit, "Unit") or [f"{unit.stem}.service"])[0]
    (command,) = re.findall(r"^Exec[A-Za-z]+=/usr/bin/kc-(\w+)$", text(service), re.M)
    body = text(LIB / f"commands/{command}.py")
    assert body.index(f'call.remove(call.run, "wake/{Path(flag).name}")') < body.index("place_of(call)")
    # one that dies before that is not to be started as fast as it dies
    assert values(service, "OnFailure") == ["kc-pause.service"] and "kc-pause.service" in values(service, "After")


@pytest.mark.parametrize("unit", [u for u in UNITS if u.suffix == ".service"], ids=lambda unit: unit.name)
def test_no_start_limit_stops_the_chain(unit: Path) -> None:
    """A limit hit by a flapping link would stop a path unit for ever; only a VM that fails again and again has one."""
    limit = values(unit, "StartLimitIntervalSec")
    if unit.name == "kc-vm@.service":
        assert limit and limit != ["0"]
    elif unit.name not in ("kc-leave.service", "kc-vm-failed@.service"):
        assert limit == ["0"]


@pytest.mark.parametrize("unit", [u for u in UNITS if u.suffix == ".service"], ids=lambda unit: unit.name)
def test_what_a_command_says_reaches_the_journal(unit: Path) -> None:
    """StandardError= inherits from StandardOutput=, null too."""
    assert values(unit, "StandardOutput") != ["null"] or values(unit, "StandardError") == ["journal"]


def test_every_wake_flag_has_somebody_who_waits_and_somebody_who_raises_it() -> None:
    raisers = [*LIB.rglob("*.py"), *(u for u in UNITS if u.suffix != ".path"), ROOT / "tests/lab/setup.py"]
    waited = {name for unit in UNITS if unit.suffix == ".path" for name in re.findall(r"wake/([a-z]+)", text(unit))}
    raised = {name for path in raisers for name in re.findall(r"wake/([a-z]+)", text(path))}
    assert waited == raised


def test_every_user_exists() -> None:
    users = set(re.findall(r"^u (\S+)", text("debian/kisscluster.sysusers"), re.M))
    assert users == {"_kisscluster", "_kisscluster-vm"}
    named = {user for unit in UNITS for user in values(unit, "User")} - {"root"}
    assert named <= users
    written = {user for path in LIB.rglob("*.py") for user in re.findall(r"\b_kisscluster(?:-vm)?\b", text(path))}
    assert written <= users


def test_every_directory_is_made_at_boot_and_documented() -> None:
    made = re.findall(r"^d /(\S+)", text("debian/kisscluster.tmpfiles"), re.M)
    page = text("man/kisscluster-state.5")
    assert not [path for path in made if path.split("kisscluster")[1].strip("/") not in page]
    owners = {
        word
        for line in text("debian/kisscluster.tmpfiles").splitlines()
        if line.startswith("d")
        for word in line.split()[3:5]
    }
    assert owners == {"root", "_kisscluster"}


def test_every_state_file_named_is_documented() -> None:
    """What the code calls local/fit or lock/quorum stands in kisscluster-state(5)."""
    page = text("man/kisscluster-state.5")
    named = {
        name
        for path in [*LIB.rglob("*.py"), *UNITS]
        for name in re.findall(r"(?<![\w-])((?:local|lock|words|wake)/[a-z]{3,})", text(path))
    }
    assert len(named) > 10
    assert not {name for name in named if name not in page and not name.startswith("wake/")}


@pytest.mark.parametrize(("mark", "word", "failed"), [
    ("", "", True), ("incoming", "16010 ready", False), ("outgoing", "go", True), ("outgoing", "gone", False),
    ("outgoing", "over", True),
])
def test_a_guest_that_is_killed_for_its_move_has_not_failed(mark: str, word: str, failed: bool, tmp_path: Path) -> None:
    """systemd takes SIGKILL for a failure, though the unit is being stopped, and calls OnFailure=."""
    for folder in ("incoming", "outgoing"):
        (tmp_path / "local" / folder).mkdir(parents=True)
    if mark:
        (tmp_path / "local" / mark / "web1").write_text(f"{word}\n")
    unit = text(ROOT / "systemd/kc-vm-failed@.service").replace("/run/kisscluster", str(tmp_path)).replace("%i", "web1")
    conditions = [line for line in re.findall(r"^ExecCondition=(.*)", unit, re.M) if "systemctl" not in line]
    done = [subprocess.run(shlex.split(line), check=False).returncode for line in conditions]
    assert conditions and (not any(done)) == failed
