"""What the collection's modules do on a node, call by call."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.basic")
PLUGINS = Path(__file__).resolve().parents[2] / "ansible/plugins"
NAMES = "ansible_collections.kisscluster.pair.plugins.module_utils"
DATA, FRESH = "8BA28BBB02A47A1E:0:0:0:1:1\n", "0000000000000004:0:0:0:0:0\n"
NONE = (1, "", "No valid meta data found\n")


def loaded(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PLUGINS / folder / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.modules[f"{NAMES}.node"] = loaded("module_utils", "node")
sys.modules.update({NAMES.rsplit(".", parts)[0]: ModuleType("part") for parts in range(5)})
disk, resource, grow = (loaded("modules", name) for name in ("disk", "resource", "grow"))


class Ended(Exception):
    """exit_json or fail_json."""


class Fake:
    """AnsibleModule, with programs that answer by what they are asked."""

    def __init__(self, answers: Callable[[str], Any], check: bool = False, **params: Any) -> None:
        self.answers, self.check_mode, self.params = answers, check, params
        self.calls: list[str] = []

    def run_command(self, argv: Sequence[str], check_rc: bool = False) -> tuple[int, str, str]:
        assert isinstance(argv, list), "Ansible takes nothing else"
        line = " ".join(argv)
        self.calls.append(line)
        answer = self.answers(line)
        done = answer if isinstance(answer, tuple) else (0, answer or "", "")
        if check_rc and done[0]:
            self.fail_json(line)
        return done

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)

    def fail_json(self, text: str) -> None:
        raise Ended(text)


def run(module: ModuleType, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the module says at its end."""
    monkeypatch.setattr(module, "AnsibleModule", lambda *_, **__: fake)
    with pytest.raises(Ended) as ended:
        module.main()
    return ended.value.args[0]


# What is done to a resource: never more than it needs


class Drbd:
    """Meta-data by volume; create-md makes it."""

    def __init__(self, *told: Any, up: bool = True) -> None:
        self.told, self.up = list(told), up

    def __call__(self, line: str) -> Any:
        words = line.split()
        volume = int(words[-1].partition("/")[2] or 0)
        if words[1] == "get-gi" and self.told[volume] == NONE:
            return 1, "", ""
        if words[1] in ("get-gi", "dump-md"):
            return self.told[volume]
        if words[1] == "create-md":
            self.told[volume] = FRESH
        return "" if words[1] != "role" or self.up else (10, "", "")


@pytest.mark.parametrize("drbd,renewed,done,fresh", [
    (Drbd(DATA), False, [], []),
    (Drbd(DATA), True, ["adjust web1"], []),
    (Drbd(DATA, up=False), False, ["adjust web1"], []),
    (Drbd(NONE, up=False), True, ["create-md --force web1/0", "adjust web1"], [0]),
    (Drbd(FRESH), False, [], [0]),
    (Drbd(DATA, NONE), True, ["create-md --force web1/1", "down web1", "adjust web1"], [1]),
])
def test_resource(monkeypatch: pytest.MonkeyPatch, drbd: Drbd, renewed: bool, done: list[str], fresh: list[int]
                  ) -> None:
    fake = Fake(drbd, name="web1", volumes=list(range(len(drbd.told))), renewed=renewed)
    assert run(resource, fake, monkeypatch) == {"changed": bool(done), "fresh": fresh}
    looks = ("get-gi", "dump-md", "role")
    assert [line.removeprefix("drbdadm ") for line in fake.calls if line.split()[1] not in looks] == done


def test_what_drbd_does_not_say_is_no_new_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(Drbd((20, "", "Operation not permitted")), name="web1", volumes=[0], renewed=True)
    assert "Operation not permitted" in run(resource, fake, monkeypatch)
    assert not [line for line in fake.calls if "get-gi" not in line and "dump-md" not in line]


# Logical volumes


TAG = "lvchange --deltag=kisscluster_new --addtag=kisscluster vg0/web1"


def volume(size: int, tags: str) -> Callable[[str], Any]:
    return lambda line: f"  {size} {4 << 20} {tags}\n" if line.startswith("lvs") else ""


@pytest.mark.parametrize("size,tags,known,done", [
    (20 << 20, "kisscluster", False, []),
    (20 << 20, "", True, []),
    (16 << 20, "kisscluster,x", False, ["lvextend --size=20971520b vg0/web1", "clear 16777216"]),
    (20 << 20, "kisscluster_new", False, ["clear 0", TAG]),
])
def test_volume(monkeypatch: pytest.MonkeyPatch, size: int, tags: str, known: bool, done: list[str]) -> None:
    fake = Fake(volume(size, tags), path="/dev/vg0/web1", size=20 << 20, known=known, state="present")
    monkeypatch.setattr(disk, "clear_end", lambda path, start, end: fake.calls.append(f"clear {start}"))
    assert run(disk, fake, monkeypatch) == {"changed": bool(done)}
    assert [line for line in fake.calls if not line.startswith("lvs")] == done


@pytest.mark.parametrize("size,tags,told", [
    (20 << 20, "", "is there already, and is no VM's disk"), (24 << 20, "kisscluster", "never made smaller")])
def test_volume_refused(monkeypatch: pytest.MonkeyPatch, size: int, tags: str, told: str) -> None:
    fake = Fake(volume(size, tags), path="/dev/vg0/web1", size=20 << 20, known=False, state="present")
    assert told in run(disk, fake, monkeypatch)
    assert not [line for line in fake.calls if not line.startswith("lvs")]


def test_new_volume_gets_its_name_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends half-way leaves a volume that the next one finishes."""
    there: list[str] = []

    def answer(line: str) -> Any:
        there.extend(["x"] if line.startswith("lvcreate") else [])
        return volume(20 << 20, "kisscluster_new")(line) if there else ""

    fake = Fake(answer, path="/dev/vg0/web1", size=20 << 20, known=False, state="present")
    monkeypatch.setattr(disk, "clear_end", lambda path, start, end: fake.calls.append("clear"))
    assert run(disk, fake, monkeypatch) == {"changed": True}
    assert [line.split()[0] for line in fake.calls] == ["lvs", "lvcreate", "lvs", "clear", "lvchange"]


def test_only_what_is_new_is_cleared(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"x" * (3 << 20))
    disk.clear_end(str(file), (3 << 20) - 512, 3 << 20)
    assert file.read_bytes() == b"x" * ((3 << 20) - 512) + bytes(512)
    disk.clear_end(str(file), 0, 3 << 20)
    assert file.read_bytes() == b"x" * (2 << 20) + bytes(1 << 20)


# A disk that has grown


class Mirror:
    """A disk of 1 MiB on two nodes; `seen`: what QEMU shows here."""

    def __init__(self, role: str, seen: int | None = None, state: str = "Connected", disks: str = "UpToDate/UpToDate"
                 ) -> None:
        self.answers = {"role": role, "cstate": state, "dstate": disks}
        self.seen, self.size = seen, 1 << 20

    def __call__(self, line: str) -> Any:
        if line == RESIZE:
            self.size = 2 << 20
        if "query-named-block-nodes" in line:
            node = f'[{{"node-name": "disk0", "image": {{"virtual-size": {self.seen}}}}}]'
            return node if self.seen else (1, "", "web1 runs on node2")
        return self.answers.get(line.split()[1], "")


RESIZE, TELL = "drbdadm -- --assume-clean resize web1/0", "kc-monitor web1 qmp block_resize"


@pytest.mark.parametrize("mirror,home,done", [
    (Mirror("Primary/Secondary", 1 << 20), True, [RESIZE, TELL]),
    (Mirror("Primary/Secondary", 1 << 20), False, [RESIZE, TELL]),
    (Mirror("Secondary/Primary"), True, []),
    (Mirror("Secondary/Secondary"), False, []),
    (Mirror("Secondary/Secondary"), True, ["drbdadm primary web1", RESIZE, "drbdadm secondary web1"]),
    (Mirror("Primary/Unknown", 1 << 20, "WFConnection", "UpToDate/Outdated"), True, []),
    (Mirror("Primary/Secondary", 1 << 20, "SyncSource", "UpToDate/Inconsistent"), True, []),
    (Mirror("Primary/Primary", 1 << 20), True, []),  # on its way to the other node
    (Mirror("", state="", disks=""), True, []),
])
def test_grow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mirror: Mirror, home: bool, done: list[str]) -> None:
    fake = Fake(mirror, name="web1", volume=0, size=2 << 20, home=home)
    monkeypatch.setattr(grow, "device_size", lambda *_: mirror.size)
    monkeypatch.setattr(grow, "LOCKS", str(tmp_path))
    mirror.size = 1 << 20
    result = run(grow, fake, monkeypatch)
    looks = ("role", "cstate", "dstate", "query")
    assert [line.split(" {")[0] for line in fake.calls if not any(look in line for look in looks)] == done
    assert result["changed"] == bool(done)
    assert bool(result["waits"]) == (mirror.answers["role"].startswith("Primary") and not done)


def test_check_mode_only_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror("Primary/Secondary", 1 << 20)
    fake = Fake(mirror, check=True, name="web1", volume=0, size=2 << 20, home=True)
    monkeypatch.setattr(grow, "device_size", lambda *_: mirror.size)
    assert run(grow, fake, monkeypatch)["changed"] and RESIZE not in fake.calls
