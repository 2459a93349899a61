"""kc-migrate: each side's part, with a QEMU that is a script of answers."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.node import DEAD, HEALTHY, FakeNode

RUNS = {"local/running/web1": ""}
BOTH = "Connected Primary/Primary UpToDate/UpToDate r"
HERE = "Connected Primary/Secondary UpToDate/UpToDate r"
THERE = "Connected Secondary/Primary UpToDate/UpToDate r"


class FakeQemu:
    """Answers QMP for web1, and is a process under its name."""

    def __init__(self, node: FakeNode, answers: Callable[[str, FakeQemu], Any]) -> None:
        self.node, self.answers, self.asked = node, answers, list[str]()
        self.quits = True
        folder = node.run / "vm/web1"
        folder.mkdir(parents=True)
        program = node.base / "kc-web1"
        program.symlink_to("/bin/sleep")
        self.process = subprocess.Popen([str(program), "60"])
        (folder / "pid").write_text(f"{self.process.pid}\n")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(folder / "qmp"))
        self.socket.listen(5)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as stream:
                stream.write('{"QMP": {}}\n')
                stream.flush()
                for line in stream:
                    command = json.loads(line)["execute"]
                    self.asked.append(line.strip())
                    if command == "quit" and self.quits:
                        self.process.kill()
                        self.process.wait()
                    answer = {} if command == "qmp_capabilities" else self.answers(command, self)
                    stream.write(json.dumps({"return": answer}) + "\n")
                    stream.flush()

    def was_asked(self, command: str) -> bool:
        return any(json.loads(line)["execute"] == command for line in self.asked)

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def qemu(node: FakeNode, answers: Callable[[str, FakeQemu], Any]) -> Iterator[FakeQemu]:
    os.chdir(node.base)
    found = FakeQemu(node, answers)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def beating(node: FakeNode) -> Iterator[None]:
    """The heartbeat lives on while a long command runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.2):
            node.beat()
    node.beat()
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def sender(status: str) -> Callable[[str, FakeQemu], Any]:
    """A QEMU whose migration, once begun, ends so at the next question."""
    def answer(command: str, fake: FakeQemu) -> Any:
        begun = fake.was_asked("migrate")
        if command == "query-migrate":
            # it came here by a migration itself, which QEMU says, too
            return {"status": "cancelled" if fake.was_asked("migrate_cancel") else status if begun else "completed"}
        if command == "query-status":
            return {"status": "postmigrate" if begun and status == "completed" else "running"}
        return {}
    return answer


def gives_up(node: FakeNode) -> None:
    """drbdadm secondary succeeds, and the kernel says so."""
    node.answer("drbdadm", "secondary", f"sed -i 's/Primary/Secondary/' {node.base}/proc")


def moving(node: FakeNode, peer: str = "16010 ready") -> None:
    node.drbd("web1", BOTH)
    node.facts({**RUNS, "local/outgoing/web1": "go", "peer/local/incoming/web1": peer})


def settle(node: FakeNode, line: str) -> None:
    """The peer ends its part when it hears the word."""
    def peer() -> None:
        while (node.run / "local/outgoing/web1").read_text() == "go\n":
            time.sleep(0.05)
        node.drbd("web1", line)
        node.facts({"peer/local/incoming/web1": None})
    threading.Thread(target=peer, daemon=True).start()


def test_asked_by_a_person(node: FakeNode) -> None:
    node.drbd("web1", HERE)
    node.facts(dict(RUNS))
    with beating(node):
        assert node.call("kc-migrate", "--no-wait", "web1").returncode == 0
        assert node.called() == ["systemctl --no-block start kc-migrate@web1.service"]
        assert (node.run / "local/outgoing/web1").read_text() == "go\n"
        again = node.call("kc-migrate", "web1")
    assert again.returncode == 75 and "already" in again.stderr


@pytest.mark.parametrize(("facts", "line", "status"), [
    ({}, HERE, 1), ({"peer/local/running/web1": ""}, THERE, 1),
    (RUNS, "SyncSource Primary/Secondary UpToDate/Inconsistent r", 75),
    ({**RUNS, "peer/local/fit": "no"}, HERE, 75), (RUNS, "WFConnection Primary/Unknown UpToDate/DUnknown r", 75)])
def test_refused(node: FakeNode, facts: dict[str, str | None], line: str, status: int) -> None:
    node.drbd("web1", line)
    node.facts(dict(facts))
    assert node.call("kc-migrate", "web1").returncode == status
    assert not (node.run / "local/outgoing/web1").exists() and node.called() == []


def test_sent(node: FakeNode) -> None:
    moving(node)
    settle(node, THERE)
    with qemu(node, sender("completed")) as fake, beating(node):
        done = node.call("kc-migrate", "--direct", "web1")
        assert done.returncode == 0, done
        assert json.loads(next(line for line in fake.asked if '"migrate"' in line))["arguments"] == {
            "uri": "tcp:10.0.0.2:16010"}
        assert fake.was_asked("quit") and not fake.was_asked("cont")
    assert node.called() == ["drbdadm secondary web1", "drbdadm net-options --allow-two-primaries=no web1"]
    assert (node.run / "local/stopping/web1").exists() and not (node.run / "local/outgoing/web1").exists()


def test_sent_and_it_does_not_quit(node: FakeNode) -> None:
    """Killed while its unit is up, it would be started again."""
    moving(node)
    settle(node, THERE)
    node.answer("systemctl", "--no-block", f"kill -0 $(cat {node.run}/vm/web1/pid) && echo it lives >> {node.log}")
    with qemu(node, sender("completed")) as fake, beating(node):
        fake.quits = False
        assert node.call("kc-migrate", "--direct", "web1").returncode == 0
        assert fake.was_asked("quit") and fake.process.wait(5) == -9
    assert node.called() == ["systemctl --no-block stop kc-promote@web1.service", "it lives",
                             "drbdadm secondary web1", "drbdadm net-options --allow-two-primaries=no web1"]


@pytest.mark.parametrize("why", ["failed", "the cable", "a signal", "no port", "shut down"])
def test_it_stays_here(node: FakeNode, why: str) -> None:
    moving(node, "22 ready" if why == "no port" else "16010 ready")
    settle(node, HERE)
    with qemu(node, sender("failed" if why == "failed" else "active")) as fake, beating(node):
        process = subprocess.Popen(node.argv("kc-migrate", "--direct", "web1"), env=node.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if why != "failed":
            until(lambda: fake.was_asked("query-migrate" if why == "no port" else "migrate"))
        if why == "no port":
            time.sleep(0.5)
            assert not fake.was_asked("migrate")
        if why == "the cable":
            node.drbd("web1", "WFConnection Primary/Unknown UpToDate/DUnknown s")
        elif why == "shut down":
            node.facts({"local/stopping/web1": ""})                           # by the unit's kc-vm-stop
        elif why != "failed":
            process.terminate()
        assert process.wait(30) == 0
        assert not fake.was_asked("quit")
    assert node.called() == ["drbdadm net-options --allow-two-primaries=no web1"]
    assert not (node.run / "local/outgoing/web1").exists()
    assert (node.run / "migration/web1").read_text().startswith("failed: ")


def test_two_primaries_stay_until_the_peer_is_done(node: FakeNode) -> None:
    """Killed and begun again: the mark stands until the window is closed."""
    node.drbd("web1", THERE)
    node.facts({"local/outgoing/web1": "gone"})
    node.answer("drbdadm", "net-options", "exit 10")
    with beating(node):
        assert node.call("kc-migrate", "--direct", "web1").returncode == 75
    assert (node.run / "local/outgoing/web1").exists()
    node.drbd("web1", "StandAlone Secondary/Unknown UpToDate/DUnknown r")
    with beating(node):
        assert node.call("kc-migrate", "--direct", "web1").returncode == 0
    assert not (node.run / "local/outgoing/web1").exists()


def receiver(command: str, fake: FakeQemu) -> Any:
    node = fake.node
    gone = (node.run / "peer/local/outgoing/web1").read_text() == "gone\n"
    return {"status": "paused" if gone else "inmigrate"} if command == "query-status" else {}


def test_taken_over(node: FakeNode) -> None:
    """It runs by two proofs: the peer's word, and a peer that is not primary."""
    node.drbd("web1", BOTH)
    node.facts({"peer/local/outgoing/web1": "go", "local/incoming/web1": "16010"})
    with qemu(node, receiver) as fake, beating(node):
        process = subprocess.Popen(node.argv("kc-migrate", "--direct", "web1"), env=node.environment())
        until(lambda: (node.run / "local/incoming/web1").read_text() == "16010 ready\n")
        node.facts({"peer/local/outgoing/web1": "gone"})
        time.sleep(0.6)
        assert not fake.was_asked("cont") and not (node.run / "local/running/web1").exists()
        node.drbd("web1", HERE)
        assert process.wait(30) == 0
        assert fake.was_asked("cont")
    assert node.called() == ["drbdadm net-options --allow-two-primaries=no web1"]
    assert (node.run / "local/running/web1").exists() and not (node.run / "local/incoming/web1").exists()


def test_it_arrives_as_if_it_had_never_been_here(node: FakeNode) -> None:
    """The unit of the disk that was given up may still be up, and three arrivals in ten minutes are no failures."""
    node.drbd("web1", THERE)
    node.facts({"peer/local/outgoing/web1": "go", "local/incoming/web1": "16010 ready"})
    node.answer("systemctl", "start", f"cat {node.run}/local/incoming/web1 >> {node.log}; exit 1")
    with beating(node):
        assert node.call("kc-migrate", "--direct", "web1").returncode == 0
    assert node.called()[:5] == ["systemctl stop kc-promote@web1.service",
                                 "systemctl --no-block reset-failed kc-vm@web1.service",
                                 "drbdadm net-options --allow-two-primaries=yes web1",
                                 "systemctl start kc-vm@web1.service", "16010"]


def test_nothing_is_started_for_a_move_that_is_over(node: FakeNode) -> None:
    """Begun anew, since its disk could not be given up then."""
    node.drbd("web1", BOTH)
    node.facts({"peer/local/outgoing/web1": "over", "local/incoming/web1": "16010 ready"})
    gives_up(node)
    with beating(node):
        assert node.call("kc-migrate", "--direct", "web1").returncode == 0
    assert node.called() == ["systemctl stop kc-promote@web1.service",
                             "systemctl --no-block reset-failed kc-vm@web1.service", "drbdadm secondary web1",
                             "drbdadm net-options --allow-two-primaries=no web1"]


@pytest.mark.parametrize("why", ["over", "silent", "cable", "leaving"])
def test_put_away(node: FakeNode, why: str) -> None:
    node.drbd("web1", BOTH)
    node.facts({"peer/local/outgoing/web1": "over" if why == "over" else "go", "local/incoming/web1": "16010"})
    with qemu(node, receiver) as fake, beating(node):
        if why == "silent":
            node.links(DEAD)
        if why == "cable":
            node.drbd("web1", "WFConnection Primary/Unknown UpToDate/DUnknown s")
        gives_up(node)
        if why == "leaving":
            node.facts({"local/leaving": ""})
        assert node.call("kc-migrate", "--direct", "web1").returncode == 0
        assert not fake.was_asked("cont")
    waited = ["systemctl stop kc-promote@web1.service", "systemctl --no-block reset-failed kc-vm@web1.service"]
    # while this node leaves, systemd ends the unit only after this command
    assert node.called() == ["systemctl --no-block stop kc-promote@web1.service", *([] if why == "leaving" else waited),
                             "drbdadm secondary web1", "drbdadm net-options --allow-two-primaries=no web1"]
    assert not (node.run / "local/incoming/web1").exists()


def test_an_arrived_guest_outlives_a_restart_of_the_heartbeat(node: FakeNode) -> None:
    """Its memory is nowhere else, and for a moment the new heartbeat has heard nothing."""
    node.drbd("web1", HERE)
    node.facts({"peer/local/outgoing/web1": None, "local/incoming/web1": "16010 ready"})
    node.links(f"{DEAD} starting=yes")
    with qemu(node, lambda asked, _: {"status": "paused"} if asked == "query-status" else {}) as fake, beating(node):
        process = subprocess.Popen(node.argv("kc-migrate", "--direct", "web1"), env=node.environment())
        until(lambda: len(fake.asked) > 6)
        assert process.poll() is None and not fake.was_asked("cont")
        node.facts({"peer/local/outgoing/web1": "gone"})
        node.links(HEALTHY)
        assert process.wait(30) == 0
        assert fake.was_asked("cont")


def test_it_ends_between_its_arrival_and_going_on(node: FakeNode) -> None:
    """With 0, so systemd does not start it again; nobody waits for it for a minute."""
    node.drbd("web1", BOTH)
    node.facts({"peer/local/outgoing/web1": "go", "local/incoming/web1": "16010"})
    gives_up(node)
    with beating(node):
        with qemu(node, receiver) as fake:
            process = subprocess.Popen(node.argv("kc-migrate", "--direct", "web1"), env=node.environment())
            until(lambda: (node.run / "local/incoming/web1").read_text() == "16010 ready\n")
            node.facts({"peer/local/outgoing/web1": "gone"})
            asked = len(fake.asked)
            until(lambda: len(fake.asked) > asked + 2)
        assert process.wait(10) == 0
    assert not (node.run / "local/running/web1").exists() and not (node.run / "local/incoming/web1").exists()


def test_nothing_is_put_away_that_runs_here(node: FakeNode) -> None:
    node.drbd("web1", HERE)
    node.facts(dict(RUNS))
    assert node.call("kc-migrate", "--direct", "web1").returncode == 0
    assert node.call("kc-migrate", "--direct", "web2").returncode == 1
    assert node.called() == []


def test_the_peers_wish_starts_our_part(node: FakeNode) -> None:
    node.drbd("web1", "Connected Secondary/Primary UpToDate/UpToDate r")
    node.facts({"peer/local/running/web1": "", "peer/local/outgoing/web1": "go"})
    with beating(node):
        node.call("kc-failover")
    assert "kc-migrate@web1.service" in " ".join(node.called())
    node.links(DEAD)
    node.call("kc-failover")
    assert "kc-migrate" not in " ".join(node.called())


def test_promoted_beside_the_peer_only_to_take_over(node: FakeNode) -> None:
    node.drbd("web1", THERE)
    node.facts({"peer/local/outgoing/web1": "go"})
    with beating(node):
        assert node.call("kc-promote", "web1").returncode == 1
        node.facts({"local/incoming/web1": "16010"})
        assert node.call("kc-promote", "web1").returncode == 0
    assert node.called() == ["drbdadm primary web1"]


def test_a_guest_that_waits(node: FakeNode) -> None:
    disk = node.base / "by-res/web1/0"
    disk.unlink()
    disk.touch()
    node.facts({"local/incoming/web1": "16010"})
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert node.call("kc-vm-start", "--direct", "web1", KC_VM_USER=me).returncode == 0
    assert node.called()[-1].endswith("-S -incoming tcp:10.0.0.1:16010")
    assert not (node.run / "local/running/web1").exists()


def test_a_guest_that_had_arrived_boots(node: FakeNode) -> None:
    """It died before kc-migrate had ended: there is no other memory to wait for."""
    disk = node.base / "by-res/web1/0"
    disk.unlink()
    disk.touch()
    node.facts({**RUNS, "local/incoming/web1": "16010 ready"})
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert node.call("kc-vm-start", "--direct", "web1", KC_VM_USER=me).returncode == 0
    assert "-incoming" not in node.called()[-1]


def test_no_guest_boots_beside_the_peers(node: FakeNode) -> None:
    node.drbd("web1", BOTH)
    assert node.call("kc-vm-start", "--direct", "--timeout", "0.5", "web1").returncode == 107
    assert node.called() == []


def test_a_guest_that_waits_is_killed(node: FakeNode) -> None:
    """Its disk may be frozen: nothing must be asked of it."""
    node.facts({"local/incoming/web1": "16010 ready"})
    with qemu(node, receiver) as fake:
        assert node.call("kc-vm-stop", "--direct", "web1").returncode == 0
        assert fake.process.wait(5) == -9 and fake.asked == []


def test_a_leave_waits_for_the_peers_part_of_a_move(node: FakeNode) -> None:
    """A guest that has just arrived can be sent back only then; but nobody waits for words of a silent heartbeat."""
    node.drbd("web1", HERE)
    node.facts({**RUNS, "local/leaving": "", "peer/local/outgoing/web1": "gone"})
    argv, moves = node.argv("kc-failover", "--leave"), node.run / "local/outgoing/web1"
    with beating(node):
        process = subprocess.Popen(argv, env=node.environment(), stdout=subprocess.DEVNULL)
        until((node.run / "plan").exists)
        time.sleep(1)  # five looks
        assert process.poll() is None and not moves.exists()
        node.facts({"peer/local/outgoing/web1": None})
        until(moves.exists)
        process.kill()
        process.wait()
    node.facts({"peer/local/outgoing/web1": "gone", "local/outgoing/web1": None})
    assert node.call("kc-failover", "--leave").returncode == 0


def test_a_dry_run_says_why_it_shows_nothing(node: FakeNode) -> None:
    (node.run / "alive").unlink()
    argv = node.argv("kc-failover", "-n")
    done = subprocess.run(argv, env=node.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (75, "") and "kc-heartbeat" in done.stderr


def test_a_dry_leave_shows_each_command_once(node: FakeNode) -> None:
    node.drbd("web1", HERE)
    shown = node.call("kc-failover", "-n").stdout
    assert "web1" in shown
    assert node.call("kc-failover", "-n", "--leave").stdout == shown
