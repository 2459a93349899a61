"""kc-configure: real git on both sides, an ssh that is a shell on the other side, an Ansible that only notes."""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.node import DEAD, HEALTHY, STUB, FakeNode

SSH = """\
#!/bin/bash
for word; do case $word in root@*) address=${{word#root@}} ;; esac; done
if test -e "{base}/down.$address"; then echo "ssh: $address: no route" >&2; exit 255; fi
exec sh -c "$(printf %s "${{@: -1}}" | sed 's#{base}/#{base}/peer/#g')"
"""
NUMBERS = 'echo "web1: {{}}" > {etc}/definitions/numbers.yml'


class Pair(FakeNode):
    """node1 with a definition that nobody has committed yet, and node2's files below peer/."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        for program, text in (("ssh", SSH), ("ansible-playbook", STUB)):
            stub = base / "bin" / program
            stub.write_text(text.format(base=base, log=self.log, answers=base / "answers"))
            stub.chmod(0o755)
        self.work, self.bare = self.etc / "definitions", self.lib / "definitions.git"
        for folder in ("etc", "lib", "run"):
            (base / "peer" / folder).mkdir(parents=True)
        self.there_work = base / "peer/etc/definitions"
        self.there_bare = base / "peer/lib/definitions.git"
        self.define("web1", "memory: 64\n")
        self.plays(NUMBERS.format(etc=self.etc))

    def define(self, vm: str, text: str) -> None:
        (self.work / "vm").mkdir(parents=True, exist_ok=True)
        (self.work / f"vm/{vm}.yml").write_text(text)

    def plays(self, script: str) -> None:
        self.answer("ansible-playbook", "-i", script)

    def down(self, *addresses: str) -> None:
        for file in self.base.glob("down.*"):
            file.unlink()
        for address in addresses:
            (self.base / f"down.{address}").touch()
        self.links(DEAD if len(addresses) == 2 else HEALTHY)

    def git(self, folder: Path, *words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True,
                              env={"PATH": "/usr/bin:/bin"})
        return done.stdout.strip()

    def heads(self) -> set[str]:
        """The commit of both repositories and of both working copies."""
        folders = [self.bare, self.there_bare, self.work, self.there_work]
        return {self.git(folder, "rev-parse", "HEAD") for folder in folders}

    def commit_there(self, vm: str, text: str = "memory: 128\n") -> None:
        (self.there_work / f"vm/{vm}.yml").write_text(text)
        self.git(self.there_work, "add", "-A")
        self.git(self.there_work, "commit", "-qm", "there")
        self.git(self.there_work, "push", "-q", str(self.there_bare), "HEAD:main")

    def played(self) -> list[str]:
        return [line for line in self.called() if line.startswith("ansible-playbook")]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_first_call_makes_everything_and_the_second_nothing(pair: Pair) -> None:
    done = pair.call("kc-configure")
    (head,) = pair.heads()
    assert (done.returncode, done.stdout) == (0, f"nodes='node1 node2' commit={head[:7]} check=no\n"), done.stderr
    assert pair.git(pair.there_work, "log", "--format=%s").split("\n") == [
        "ports and minors, by kc-configure on node1", "web1.yml on node1"]
    inventory = json.loads((pair.run / "inventory.json").read_text())["kisscluster"]["hosts"]
    assert list(inventory) == ["node1", "node2"]
    assert (inventory["node1"]["ansible_connection"], inventory["node2"]["ansible_host"]) == ("local", "10.0.0.2")
    assert pair.played() == [f"ansible-playbook -i {pair.run}/inventory.json kisscluster.pair.vms"
                             f" -e vms_definitions={pair.work}"]
    assert pair.call("kc-configure").returncode == 0
    assert pair.heads() == {head}


def test_a_person_s_push_goes_to_both(pair: Pair) -> None:
    pair.call("kc-configure")
    urls = pair.git(pair.work, "config", "--get-all", "remote.origin.pushurl").split("\n")
    assert urls == [str(pair.bare), f"ssh://root@10.0.0.2{pair.bare}"]


def test_message_of_the_commit(pair: Pair) -> None:
    assert pair.call("kc-configure", "--message", "more memory").returncode == 0
    assert "more memory" in pair.git(pair.bare, "log", "--format=%s", "main")


def test_check_changes_nothing(pair: Pair) -> None:
    pair.plays("exit 0")
    assert pair.call("kc-configure", "--check").returncode == 0
    assert pair.played()[0].endswith("--check --diff")
    assert not pair.bare.exists() and not (pair.work / ".git").exists() and not list((pair.base / "peer/lib").iterdir())
    pair.call("kc-configure")
    (head,) = pair.heads()
    pair.define("web1", "memory: 65\n")
    assert pair.call("kc-configure", "--check").returncode == 0
    assert pair.heads() == {head} and pair.git(pair.work, "status", "--porcelain") == "M vm/web1.yml"


def test_dry_run_changes_nothing(pair: Pair) -> None:
    pair.call("kc-configure")
    (head,) = pair.heads()
    pair.define("web1", "memory: 65\n")
    pair.called()
    done = pair.call("kc-configure", "--dry-run")
    assert done.returncode == 0 and pair.heads() == {head} and not pair.played()
    assert pair.git(pair.work, "status", "--porcelain") == "M vm/web1.yml"
    assert [line.split("core")[0].split()[0] for line in done.stdout.splitlines() if "push" in line] == ["git", "git"]


def test_peer_down_and_back(pair: Pair) -> None:
    pair.call("kc-configure")
    pair.down("10.0.0.2", "192.0.2.12")
    pair.define("web1", "memory: 65\n")
    done = pair.call("kc-configure")
    assert done.returncode == 0 and done.stdout.startswith("nodes=node1 ") and "not reached" in done.stderr
    assert list(json.loads((pair.run / "inventory.json").read_text())["kisscluster"]["hosts"]) == ["node1"]
    assert len(pair.heads()) == 2
    pair.down()
    assert pair.call("kc-configure").returncode == 0
    assert len(pair.heads()) == 1 and (pair.there_work / "vm/web1.yml").read_text() == "memory: 65\n"


def test_peer_down_from_the_beginning(pair: Pair) -> None:
    pair.down("10.0.0.2", "192.0.2.12")
    assert pair.call("kc-configure").returncode == 0
    pair.down()
    assert pair.call("kc-configure").returncode == 0 and len(pair.heads()) == 1


def test_storage_cable_out(pair: Pair) -> None:
    pair.down("10.0.0.2")
    assert pair.call("kc-configure").returncode == 0 and len(pair.heads()) == 1
    assert "192.0.2.12" in (pair.run / "inventory.json").read_text()


def test_peer_that_speaks_but_lets_nobody_in(pair: Pair) -> None:
    pair.down("10.0.0.2", "192.0.2.12")
    pair.links(HEALTHY)
    done = pair.call("kc-configure")
    assert done.returncode == 69 and "no route" in done.stderr and not pair.played()


def test_what_the_other_node_has_is_taken_first(pair: Pair) -> None:
    pair.call("kc-configure")
    pair.commit_there("web2")
    pair.define("web1", "memory: 65\n")
    assert "not here yet" in pair.call("kc-configure", "--check").stderr
    assert pair.call("kc-configure").returncode == 0
    assert len(pair.heads()) == 1 and (pair.work / "vm/web2.yml").exists()


def test_changed_on_both_nodes(pair: Pair) -> None:
    pair.call("kc-configure")
    pair.commit_there("web1")
    pair.define("web1", "memory: 65\n")
    done = pair.call("kc-configure")
    assert done.returncode == 69 and "vm/web1.yml" in done.stderr  # git refuses to overwrite what is not committed


def test_diverged_is_refused_and_mended_as_it_says(pair: Pair) -> None:
    pair.call("kc-configure")
    pair.commit_there("web2")
    pair.down("10.0.0.2", "192.0.2.12")
    pair.define("web1", "memory: 65\n")
    pair.call("kc-configure")
    pair.down()
    pair.called()
    for option in ([], ["--check"]):
        done = pair.call("kc-configure", *option)
        assert done.returncode == 1 and "diverged" in done.stderr and not pair.played()
    assert f"git -C {pair.work} merge --no-edit node2/main, then kc-configure" in done.stderr
    pair.git(pair.work, "merge", "-q", "--no-edit", "node2/main")
    assert pair.call("kc-configure").returncode == 0 and len(pair.heads()) == 1


def test_unfinished_merge(pair: Pair) -> None:
    pair.call("kc-configure")
    pair.commit_there("web1")
    pair.git(pair.work, "fetch", "-q", str(pair.there_bare), "main")
    pair.define("web1", "memory: 65\n")
    pair.git(pair.work, "commit", "-qam", "here")
    subprocess.run(["git", "-C", str(pair.work), "merge", "-q", "FETCH_HEAD"], capture_output=True)
    done = pair.call("kc-configure")
    assert done.returncode == 1 and "not finished" in done.stderr and "<<<<" not in pair.git(pair.work, "show", "HEAD")


@pytest.mark.parametrize("where", ["run", "peer/run"])
def test_two_at_once(pair: Pair, where: str) -> None:
    lock = pair.base / where / "lock/configure"
    lock.parent.mkdir()
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert pair.call("kc-configure").returncode == 75
    assert not pair.played()


@pytest.mark.parametrize("script,status", [("exit 2", 1), ("exit 4", 69), ("exit 127", 69), ("sleep 9", 124)])
def test_playbook_that_fails_is_not_pushed(pair: Pair, script: str, status: int) -> None:
    pair.plays(script)
    assert pair.call("kc-configure", "--timeout", "3").returncode == status
    assert not list(pair.bare.glob("refs/heads/*"))
