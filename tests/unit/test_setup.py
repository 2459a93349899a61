"""What kc-doctor finds: every option of DRBD, and what needs to be here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kisscluster.base.config import Config, Node, Vm
from kisscluster.decide import setup
from kisscluster.decide.setup import Setup, findings, needs, options, unknown

README = (Path(__file__).parents[2] / "README.md").read_text()
# as drbdadm-84 of drbd-utils 9.22 prints it
DUMP = """\
# /etc/drbd.conf
global {
    disable-ip-verification;
    usage-count no;
    cmd-timeout-medium 600;
    cmd-timeout-long 0;
}

common {
    net {
        protocol           B;
    }
    handlers {
        fence-peer       /usr/bin/kc-fence-peer;
    }
}

# resource web1 on node1: not ignored, not stacked
# defined at /etc/drbd.conf:3
resource web1 {
    on node1 {
        volume 0 {
            device       minor 10;
            disk         /dev/vg0/web1;
            meta-disk    internal;
        }
        address          ipv4 10.0.0.1:7790;
    }
    on node2 {
        volume 0 {
            device       minor 10;
            disk         /dev/vg0/web1;
            meta-disk    internal;
        }
        address          ipv4 10.0.0.2:7790;
    }
    options {
        on-no-data-accessible suspend-io;
    }
    net {
        protocol           C;
        ping-int           1;
        ping-timeout       5;
        timeout           30;
        connect-int        1;
        after-sb-0pri    discard-zero-changes;
        after-sb-1pri    disconnect;
        after-sb-2pri    disconnect;
    }
    disk {
        fencing          resource-and-stonith;
        on-io-error      detach;
    }
    handlers {
        unfence-peer     "touch /run/kisscluster/wake/failover";
        split-brain      "touch /var/lib/kisscluster/split-brain/$DRBD_RESOURCE /run/kisscluster/wake/failover";
        local-io-error   "touch /run/kisscluster/wake/failover";
        before-resync-target "test ! -e /var/lib/kisscluster/ahead/$DRBD_RESOURCE";
    }
}

"""
WORDS = {"target": "enabled", "drbd_service": "masked", "panic": "10", "watchdog": "30s", "clock": "yes",
         "drbd": "8.4.11"}


def config(fence: str = "", deadtime: float = 3.0) -> Config:
    nodes = Node("node1", "192.0.2.11", "10.0.0.1", fence), Node("node2", "192.0.2.12", "10.0.0.2", fence)
    return Config("/etc/kisscluster/kisscluster.conf", "demo", "192.0.2.1", 5324, 0.5, deadtime, 30, "migrate", 600,
                  nodes, *nodes)


def guest(**changes: Any) -> Vm:
    plain = Vm("web1", "node1", 64, 1, ("br0",), ("02:00:00:00:00:01",), 50, 120, "scsi", "kvm", "", "utc", "")
    return plain._replace(**changes)


def facts(**changes: Any) -> Setup:
    good = Setup(dict(WORDS), True, "", {"192.0.2.11": "br0", "10.0.0.1": "stor"}, frozenset({"br0"}), 0, frozenset(),
                 DUMP, "", frozenset({"web1"}), {"web1": ""})
    return good._replace(**changes)


def texts(deadtime: float = 3.0, **changes: Any) -> list[str]:
    return [item.text for item in findings(config(deadtime=deadtime), [guest()], facts(**changes))]


def test_nothing() -> None:
    assert texts() == [] and unknown(facts()) == []


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str) -> None:
    bad = {"target": ["disabled", "", "enabled-runtime"], "drbd_service": ["enabled", "enabled-runtime"],
           "panic": ["0"], "watchdog": ["0"], "clock": ["no", ""], "drbd": ["", "9.2.0", "8.3.11"]}[name]
    for value in bad:
        (item,) = findings(config(), [], facts(words={**WORDS, name: value}))
        assert (item.text, item.command) == setup.GOOD[name][1:]
    assert texts(words={**WORDS, name: None}) == []
    assert unknown(facts(words={**WORDS, name: None})) == [name]


def test_good_words_of_others() -> None:
    for name, value in (("drbd_service", ""), ("watchdog", "none"), ("watchdog", "1min"), ("panic", "-1")):
        assert texts(words={**WORDS, name: value}) == []


def test_it_wants_what_the_readme_says() -> None:
    found = re.search(r"^       (resource web1 {.*?^       })", README, re.S | re.M)
    assert found
    told = {name.removeprefix("resource web1 "): value for name, value in options(found[1]).items()}
    told["net protocol"] = told.pop("protocol")
    wanted = {**options(setup.UNTOLD), **options(setup.WANTED)}
    assert wanted.pop("net allow-two-primaries") == "no"
    assert {name: told.pop(name) for name in wanted} == wanted
    assert {name.split()[0] for name in told} == {"volume", "on"}


@pytest.mark.parametrize("option", options(setup.UNTOLD + setup.WANTED))
def test_every_option(option: str) -> None:
    section, key = option.split()
    inside = f"resource web1 {{ {section} {{ {key} nonsense; }} }}\n"
    (text,) = texts(dump=DUMP + inside)
    assert text.startswith(f"DRBD's {option} is nonsense: expected ")
    without = re.sub(rf"^ +{key} .*;$", "", DUMP, flags=re.M)
    assert texts(dump=without) == ([] if option in options(setup.UNTOLD) else [text.replace("nonsense", "not set")])


def test_times_may_be_shorter_and_longer_with_the_deadtime() -> None:
    slow, fast = DUMP.replace("timeout           30", "timeout 60"), DUMP.replace("timeout           30", "timeout 10")
    assert texts(dump=fast) == [] and texts(6.0, dump=slow) == []
    assert texts(dump=slow) == ["DRBD's net timeout is 60: expected 30"] == texts(5.9, dump=slow)
    assert texts(1.0) == []


def test_a_handler_may_do_more() -> None:
    more = DUMP.replace('"touch /run', '"logger \\"{}; fence\\"; touch /run')
    assert more != DUMP and texts(dump=more) == []


@pytest.mark.parametrize(("value", "fits"), [
    ("/usr/bin/kc-fence-peer.old", False), ("/opt/usr/bin/kc-fence-peer", False), ("/usr/bin/kc-fence-peer2", False),
    ("logger x; /usr/bin/kc-fence-peer", True), ("'/usr/bin/kc-fence-peer'&& :", True),
    ("/usr/bin/kc-fence-peer\t-v", True),
])
def test_a_handler_is_not_part_of_another_word(value: str, fits: bool) -> None:
    found = texts(dump=DUMP + f'resource web1 {{ handlers {{ fence-peer "{value}"; }} }}\n')
    assert bool(found) != fits


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_addresses_of_the_mirror(node: str) -> None:
    number = node[-1]
    production = DUMP.replace(f"10.0.0.{number}:", f"192.0.2.1{number}:")
    (text,) = texts(dump=production)
    assert text == f"DRBD's on {node} address is ipv4 192.0.2.1{number}:7790: expected 10.0.0.{number}"
    (text,) = texts(dump=DUMP.replace(f"on {node} ", "on other "))
    assert text == f"DRBD's on {node} address is not set: expected 10.0.0.{number}"


def test_a_name_that_begins_alike_is_another() -> None:
    assert texts(dump=DUMP.replace("resource web1 {", "resource web11 {")) == ["there is no DRBD resource of that name"]


@pytest.mark.parametrize("name", ["same", "secret", "addresses", "mtu_lost", "dump"])
def test_what_could_not_be_looked_at(name: str) -> None:
    assert not list(findings(config(), [guest()], facts(**{name: None})))
    assert unknown(facts(**{name: None})) == [name]
    assert unknown(facts(changes={"web1": None})) == ["web1"]


def test_refused_files_are_a_finding_and_known() -> None:
    assert texts(dump=None, refused="bad word") == ["drbdadm refuses its files: bad word"]
    assert unknown(facts(dump=None, refused="bad word")) == []


@pytest.mark.parametrize(("extra", "files"), [
    ("-cdrom /srv/iso/a.iso", ["/srv/iso/a.iso"]),
    ("-drive file=/a.img,format=raw -drive if=pflash,file=/b.qcow2", ["/a.img", "/b.qcow2"]),
    ("-chardev socket,path=/run/x.sock,server=on -serial file:/tmp/log -D /tmp/qemu.isolog", []),
    ("-name iso", []),
])
def test_images(extra: str, files: list[str]) -> None:
    assert needs(config(), [guest(extra=extra, accel="tcg")]) == {setup.QEMU: "", **dict.fromkeys(files, "web1")}


@pytest.mark.parametrize(("fence", "program"), [
    ("fence_ipmilan -a 192.0.2.21 -o off", "fence_ipmilan"), ("A=b /usr/local/sbin/off node2", "/usr/local/sbin/off"),
    ("off; sleep 1", "off"), ("exec off", "exec"), ("", None), ("$HOME/off", None), ('"my off" 1', None),
    ("(off)", None), ("if off; then :; fi", "if"), ("A='b c' B=\"d e\" off", "off"),
])
def test_fence_program(fence: str, program: str | None) -> None:
    assert needs(config(fence), []) == ({} if program is None else {program: ""})
