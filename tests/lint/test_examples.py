"""What the documents show as an example is accepted by the commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kisscluster.base.config import load, load_vm
from kisscluster.base.exits import Failure
from tests.lint.project import ROOT, text


@pytest.fixture(autouse=True)
def on_node1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KC_NODE", "node1")


def uncommented() -> str:
    """The shipped example with its comment signs taken away, as its text says."""
    plain = re.sub(r"^# ?", "", text("etc/kisscluster/kisscluster.conf"), flags=re.M)
    return plain[plain.index("\ncluster") :]


def block(document: str, first: str) -> str:
    """The indented block of a document that begins with a line like this."""
    found = re.search(rf"^( *){first}.*\n((?:\1.*\n| *\n)*)", text(document), re.M)
    assert found, f"{document}: no line {first!r}"
    return found[0]


PAIRS: dict[str, Callable[[], str]] = {
    "shipped": uncommented,
    "README": lambda: block("README.md", "cluster = demo"),
    "kisscluster.conf(5)": lambda: block("man/kisscluster.conf.5", "cluster  = demo").split("\n.")[0] + "\n",
}
VMS: dict[str, Callable[[], str]] = {
    "README": lambda: block("README.md", "node   = node1"),
    "kisscluster-vm(5)": lambda: block("man/kisscluster-vm.5", "node   = node1").split("\n.")[0] + "\n",
}


@pytest.mark.parametrize("name", PAIRS)
def test_pair(name: str, tmp_path: Path) -> None:
    (tmp_path / "kisscluster.conf").write_text(PAIRS[name]())
    config = load(str(tmp_path / "kisscluster.conf"))
    assert (config.cluster, config.me.name, config.peer.name) == ("demo", "node1", "node2")


@pytest.mark.parametrize("name", VMS)
def test_vm(name: str, tmp_path: Path) -> None:
    (tmp_path / "kisscluster.conf").write_text(PAIRS["README"]())
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm/web1.conf").write_text(VMS[name]())
    assert load_vm(load(str(tmp_path / "kisscluster.conf")), "web1").node == "node1"


def test_as_shipped_it_is_inert() -> None:
    with pytest.raises(Failure, match="missing"):
        load(str(ROOT / "etc/kisscluster/kisscluster.conf"))


def disk_options(document: str) -> list[str]:
    """The words of a DRBD resource, without what differs from guest to guest."""
    source = re.sub(r"{%.*?%}", "", text(document)).replace("{{", "{").replace("}}", "}")
    found = re.search(r"protocol C;(.*?)(?:volume [0{]|^}$)", source, re.S | re.M)
    assert found
    return found[1].split()


COMMON = "ansible/roles/kisscluster/templates/global_common.conf.j2"
OF_A_VM = "ansible/roles/vms/templates/resource.res.j2"


@pytest.mark.parametrize("document", ["man/kisscluster-vm.5", "tests/lab/setup.py", COMMON, OF_A_VM])
def test_every_document_and_the_laboratory_have_the_same_drbd_options(document: str) -> None:
    assert disk_options(document) == disk_options("README.md")
