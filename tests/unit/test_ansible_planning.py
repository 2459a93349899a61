"""Ports, minors and files of the VMs, as the collection plans them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kisscluster.base import config, state

UTILS = Path(__file__).resolve().parents[2] / "ansible/plugins/module_utils"


def loaded(name: str) -> ModuleType:
    """A module of the collection, outside of Ansible."""
    spec = importlib.util.spec_from_file_location(name, UTILS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


planning, node = loaded("planning"), loaded("node")
WEB = {"node": "node1", "memory": 2048, "cpus": 2, "bridge": "br0", "disks": ["20G"], "pool": "vg0"}


def plan(files: dict[str, Any], numbers: dict[str, Any] | None = None, seen: dict[str, Any] | None = None) -> Any:
    return planning.planned(files, numbers or {}, seen or {}, 7790, 10)


def refused(files: dict[str, Any], *given: Any) -> str:
    with pytest.raises(planning.Mistakes) as caught:
        plan(files, *given)
    return str(caught.value)


def all_numbers(numbers: dict[str, Any]) -> tuple[list[int], list[int]]:
    return ([record["port"] for record in numbers.values()],
            [disk["minor"] for record in numbers.values() for disk in record["disks"]])


def test_names_are_those_of_the_commands() -> None:
    assert set(planning.KEYS) == set(config.VM)
    assert planning.NAME.pattern == state.VM_NAME.pattern and set(planning.RESERVED) == state.RESERVED


def test_first_vm() -> None:
    made = plan({"web1": WEB})
    assert made.numbers == {"web1": {"port": 7790, "disks": [{"minor": 10, "path": "/dev/vg0/web1"}]}}
    (vm,) = made.vms
    assert vm["text"] == "node = node1\nmemory = 2048\ncpus = 2\nbridge = br0\n"
    assert vm["disks"][0]["size"] == 20 << 30 < vm["disks"][0]["whole"] < (20 << 30) + (4 << 20)


names = st.sampled_from(["a", "b", "c", "d", "e"])
changes = st.lists(st.tuples(names, st.integers(0, 4)), max_size=12)


@settings(deadline=None)
@given(changes, st.dictionaries(names, st.tuples(st.integers(7788, 7796), st.integers(8, 16)), max_size=3))
def test_numbers_never_change_and_never_collide(story: list[tuple[str, int]], foreign: dict[str, Any]) -> None:
    """VMs come, get disks (0: are removed) and come again, beside resources that somebody else made."""
    assume(len({port for port, _ in foreign.values()}) == len({minor for _, minor in foreign.values()}) == len(foreign))
    others = {f"x{name}": {"port": port, "disks": [{"minor": minor, "path": "/dev/sdb"}]}
              for name, (port, minor) in foreign.items()}
    files: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for name, disks in story:
        files[name] = {**WEB, "disks": ["1G"] * max(disks, len(numbers.get(name, {}).get("disks", [])))}
        if not disks:
            files[name] = {"state": "absent"}
        before, numbers = numbers, plan(files, numbers, {"node1": others, "node2": {}}).numbers
        for known, record in before.items():
            assert numbers[known]["port"] == record["port"]
            assert numbers[known]["disks"][:len(record["disks"])] == record["disks"]
        ports, minors = all_numbers({**numbers, **others})
        assert len(set(ports)) == len(ports) and len(set(minors)) == len(minors)
        assert plan(files, numbers, {"node1": others}).numbers == numbers


def test_what_was_made_by_hand_keeps_its_numbers() -> None:
    found = {"web1": {"port": 7900, "disks": [{"minor": 3, "path": "/dev/old/disk"}]}}
    assert plan({"web1": WEB}, {}, {"node1": found, "node2": found}).numbers == found
    assert plan({"web1": WEB}, {}, {"node1": found, "node2": {}}).numbers == found
    other = {"web1": {**found["web1"], "port": 7901}}
    assert "node2 has port 7901" in refused({"web1": WEB}, {}, {"node1": found, "node2": other})
    assert "node1 has port 7901" in refused({"web1": WEB}, found, {"node1": other})


@pytest.mark.parametrize("change,told", [
    ({"memroy": 1}, "key memroy: no such key"),
    ({"disks": []}, "key disks, value []"),
    ({"disks": ["20"]}, "expected a list of sizes"),
    ({"disks": "20G"}, "expected a list of sizes"),
    ({"mac": 20230 * 60}, ""),
    ({"clock": True}, "put it in quotes"),
    ({"extra": "a\nb"}, "expected one line"),
    ({"extra": "'\""}, "expected one line"),
    ({"import": "image.qcow2"}, "absolute path"),
    ({"iso": "/srv/a b.iso"}, "absolute path"),
    ({"state": "gone"}, "expected present or absent"),
    ({"remove_disks": True}, "only beside state: absent"),
    ({"pool": "../x"}, "a volume group"),
])
def test_mistakes(change: dict[str, Any], told: str) -> None:
    if told:
        assert told in refused({"web1": {**WEB, **change}})
    else:
        plan({"web1": {**WEB, **change}})  # the node's own KISScluster refuses it


def test_all_mistakes_at_once() -> None:
    text = refused({"web1": {}, "All": WEB, "home": WEB})
    assert len(text.split("\n")) == 5 + 2


@pytest.mark.parametrize(("key", "value", "same"), [
    ("vnc", "127.0.0.1:1", ":1"), ("mac", "02:00:c0:ff:ee:04", "02:00:C0:FF:EE:04")])
def test_what_two_vms_cannot_share(key: str, value: str, same: str) -> None:
    files = {"mail": {**WEB, key: same}, "shop": {**WEB, key: value, "node": "node2"}}
    assert f"vm/shop.yml: key {key}, value '{value}': mail has the same" in refused(files)
    assert plan({**files, "shop": {"state": "absent"}}) and plan({**files, "shop": {**WEB, key: ""}})


def test_a_disk_is_never_taken_away() -> None:
    numbers = plan({"web1": {**WEB, "disks": ["1G", "2G"]}}).numbers
    assert numbers["web1"]["disks"][1] == {"minor": 11, "path": "/dev/vg0/web1.1"}
    assert "it has 2 disks" in refused({"web1": WEB}, numbers)
    assert refused({"web1": WEB}, numbers, {"node1": numbers}).endswith("none is ever taken from a VM")


def test_disks_that_were_removed_can_be_forgotten() -> None:
    """By a person's word: the plan cannot tell them from those that were kept."""
    numbers = plan({"web1": {**WEB, "disks": ["1G", "2G"]}}).numbers
    gone = plan({"web1": {"state": "absent", "remove_disks": True}}, numbers).numbers
    assert "delete what numbers.yml says of web1" in refused({"web1": WEB}, gone)
    assert len(plan({"web1": WEB}, {}).vms[0]["disks"]) == 1


def test_what_is_new_waits_while_a_node_is_away_and_gets_no_numbers() -> None:
    """Else each node could give the same number, and make a disk of it, while it is alone."""
    here = plan({"mail": WEB}).numbers
    files = {"mail": {**WEB, "memory": 3, "disks": ["20G", "1G"]}, "shop": WEB, "gone": {"state": "absent"}}
    alone = plan(files, here, {"node1": here})
    assert [(vm["name"], len(vm["disks"]), "memory = 3\n" in vm["text"]) for vm in alone.vms] == [("mail", 1, True)]
    assert alone.numbers == here and [vm["name"] for vm in alone.absent] == ["gone"]
    both = plan(files, here, {"node1": here, "node2": here})
    assert [len(vm["disks"]) for vm in both.vms] == [2, 1]


def test_a_disk_that_was_refused_waits_while_a_node_is_away() -> None:
    """It has its numbers; made on one node alone it would never be UpToDate, and its guest could not start."""
    here = plan({"mail": WEB}).numbers
    files = {"mail": {**WEB, "disks": ["20G", "1G"]}}
    numbers = plan(files, here, {"node1": here, "node2": here}).numbers
    alone = plan(files, numbers, {"node1": here})
    assert [len(vm["disks"]) for vm in alone.vms] == [1] and alone.numbers == numbers
    assert "never made" in refused({"mail": WEB}, numbers, {"node1": here, "node2": here})
    assert plan({"mail": WEB}, {}, {"node1": here, "node2": here}).numbers == here


def test_two_nodes_that_were_alone_gave_the_same_numbers() -> None:
    """Two histories of numbers.yml that git merged."""
    mail, shop = (plan({name: WEB}).numbers for name in ("mail", "shop"))
    both = {**mail, **shop}
    assert "shop both have port 7790: delete what it says of shop" in refused({"mail": WEB, "shop": WEB}, both)
    assert "delete what it says of mail" in refused({"mail": WEB, "shop": WEB}, both, {"node1": shop, "node2": shop})
    mended = plan({"mail": WEB, "shop": WEB}, mail).numbers
    assert (mended["mail"], mended["shop"]["port"], mended["shop"]["disks"][0]["minor"]) == (mail["mail"], 7791, 11)


def test_a_removed_vm_says_where_its_disks_are() -> None:
    numbers = plan({"web1": WEB}).numbers
    made = plan({"web1": {"state": "absent", "remove_disks": True}}, numbers)
    assert (made.vms, made.numbers) == ([], numbers)
    assert made.absent == [{"name": "web1", "remove_disks": True, "disks": numbers["web1"]["disks"]}]


@settings(deadline=None)
@given(st.integers(1, 1 << 46))
def test_drbd_leaves_at_least_what_was_asked_for(size: int) -> None:
    whole = planning.with_metadata(size)
    for extent in (1 << 20, 4 << 20, 1 << 30):
        sectors = -(-whole // extent) * extent // 512
        meta = (-(-sectors // (1 << 18)) * 8 + 72) * 512  # FACTS 1.8
        assert sectors * 512 - meta >= size


@settings(deadline=None)
@given(extra=st.text(), bridges=st.lists(st.sampled_from(["br0", "br1", "a.b-c"]), min_size=1, max_size=3))
def test_the_commands_read_what_is_written(extra: str, bridges: list[str],
                                           tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        text = planning.conf_text({**WEB, "bridge": bridges, "extra": extra})
    except ValueError:
        return
    folder = tmp_path_factory.mktemp("etc")
    (folder / "web1.conf").write_text(text, encoding="utf-8")
    spec = [f"{key} = {check}" for key, (check, _) in config.VM.items()]
    found, mistakes = config._parse(str(folder / "web1.conf"), spec, config.VM)
    assert (mistakes, found["extra"], found["bridge"]) == ([], extra, bridges)


DUMP = """<config file="/etc/drbd.conf"><resource name="web1" conf-file-line="x">
<host name="node1"><volume vnr="1"><device minor="11">/dev/drbd11</device><disk>/dev/vg0/web1.1</disk></volume>
<volume vnr="0"><device minor="10">/dev/drbd10</device><disk>/dev/vg0/web1</disk></volume>
<address family="ipv4" port="7790">10.0.0.1</address></host>
<host name="node2"><volume vnr="0"><device minor="10">/dev/drbd10</device><disk>/dev/vg9/web1</disk></volume>
<address family="ipv4" port="7790">10.0.0.2</address></host></resource></config>"""


def test_resources_of_a_node() -> None:
    disks = [{"minor": 10, "path": "/dev/vg0/web1"}, {"minor": 11, "path": "/dev/vg0/web1.1"}]
    assert node.resources(DUMP, "node1") == {"web1": {"port": 7790, "disks": disks}}
    assert node.resources(DUMP, "node2")["web1"]["disks"] == [{"minor": 10, "path": "/dev/vg9/web1"}]
    assert node.resources(DUMP, "node3") == {}


@pytest.mark.parametrize("status,said,expected", [
    (0, "0000000000000004:0:0:0:0:0\n", node.JUST_CREATED),
    (0, "8ba28bbb02a47a1e:0:0:0:1:1", "8BA28BBB02A47A1E"),
    (1, " No valid meta data found", None),
])
def test_identifier_of_a_disk_s_data(status: int, said: str, expected: str | None) -> None:
    assert node.identifier(status, said) == expected


@pytest.mark.parametrize("status,said", [
    (0, ""), (10, "0000000000000004:0"), (1, "not defined in your config"), (20, "")])
def test_what_cannot_be_told_is_no_empty_disk(status: int, said: str) -> None:
    with pytest.raises(ValueError):
        node.identifier(status, said)
