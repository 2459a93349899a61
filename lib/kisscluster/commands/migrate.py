"""kc-migrate: move a VM to the peer while it runs; each side does its part by what both sides say (DESIGN 7)."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from kisscluster.act import drbd, qemu
from kisscluster.act.qmp import Qmp
from kisscluster.act.systemd import enqueue, unit, wait_for
from kisscluster.base.cli import Call, start
from kisscluster.base.config import Vm
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import PAUSE, ask_to_move, fresh_facts_of, named_vm, place_of, vm_argument
from kisscluster.commands.guest import ENDS
from kisscluster.commands.vm_stop import Process
from kisscluster.decide.migrate import GO_ON, GONE, OVER, broken, by_itself, handed_over, port_of, refusal, settled
from kisscluster.decide.quorum import HOME, decide
from kisscluster.see import kernel
from kisscluster.see.files import Place

ANSWER, CANCEL = 5.0, 20.0  # seconds for QEMU to answer, and to say how a migration ended that was cancelled
START, END = 90.0, 60.0  # seconds for the peer to get ready, and for the other to end its part
STOP = 10.0  # seconds for a unit to stop: while the node leaves it does not
FIRST_PORT, PORTS = 16000, 16000  # below those that the kernel gives to connections
DOWNTIME = 300  # milliseconds that QEMU may take for its last step
SLOWEST = 10.0  # MiB/s; a storage cable that carries less is no cable
LONGEST = 200  # characters of a reason that the peer is told, too
SENT = ("finish-migrate", "postmigrate")  # as query-status says it
ENDED = ("completed", "failed", "cancelled")


def arguments(parser: argparse.ArgumentParser) -> None:
    vm_argument(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-wait", action="store_true", help="only ask for it")
    how.add_argument("--direct", action="store_true", help="do this node's part; for kc-migrate@VM.service only")


def on_signal(act: Callable[[], None]) -> None:
    """What a person or systemd ends this with."""
    for number in ENDS:
        signal.signal(number, lambda *_: act())


class Move:
    """This node's part in one migration."""

    def __init__(self, call: Call, place: Place, vm: Vm) -> None:
        self.call, self.place, self.vm, self.name = call, place, vm, vm.name
        self.interrupted = False
        self.node, self.facts = fresh_facts_of(place, vm)
        on_signal(lambda: setattr(self, "interrupted", True))

    def look(self) -> None:
        """The facts, with the kernel's own word about this node's disk."""
        time.sleep(PAUSE)
        self.node, self.facts = fresh_facts_of(self.place, self.vm)

    def broken(self, arrived: bool = False) -> str:
        if self.facts.me.outgoing and self.call.run.has(f"local/stopping/{self.name}"):
            return "it is shut down here"  # or it would switch itself off there, and stay off
        return "it was interrupted" if self.interrupted and not arrived else broken(self.node, self.facts, arrived)

    def say(self, folder: str, word: str) -> None:
        self.call.write(self.place.run, f"{folder}/{self.name}", word)

    def missed(self, why: str) -> None:
        self.say("local/missed", f"{decide(self.node).word}: {why[:LONGEST]}")

    def ask(self, command: str, **arguments: object) -> dict[str, Any] | None:
        """QEMU's answer, None without one; its socket serves one client, so it is given free each time."""
        try:
            with Qmp(f"{qemu.folder(self.call.run.root, self.name)}/qmp", ANSWER) as qmp:
                answer: dict[str, Any] = qmp.execute(command, **arguments)
                return answer
        except Failure as failure:
            if failure.status == Exit.NO:
                self.call.talk(f"{self.name}: {failure}")
            return None

    def state(self) -> str:
        return str((self.ask("query-status") or {}).get("status", ""))

    def ended(self) -> bool:
        return Process(self.call, self.name).gone(0)

    def close(self, mark: str) -> int:
        """No two primaries any more, then the mark goes; what is not connected at all comes back without them."""
        if not drbd.two_primaries(self.call.doer, self.name, False):
            word = kernel.read().get(self.name)
            if word is not None and word.connection != "StandAlone":
                raise Failure(Exit.AGAIN, f"{self.name}: two primaries are still allowed")
        self.call.remove(self.place.run, f"local/{mark}/{self.name}")
        self.call.wake("failover")
        return Exit.OK


# The sending side


def send(move: Move) -> int:
    """From the wish to its end; begun anew by the tick where somebody killed it."""
    with move.call.locked(f"lock/{move.name}", END):
        if move.facts.me.outgoing == GO_ON:
            why = carry(move)
            move.say("migration", f"failed: {why}" if why else "handed over")
            if why and by_itself(decide(move.node), move.node, move.facts):
                move.missed(why)
            move.call.talk(f"{move.name}: {f'stays here: {why}' if why else 'handed over'}")
            move.say("local/outgoing", OVER if why else GONE)
        end_guest(move)
    end = time.monotonic() + END
    while time.monotonic() < end:
        move.look()
        if settled(move.node, move.facts):
            return move.close("outgoing")
    raise Failure(Exit.AGAIN, f"{move.name}: the peer does not end its part")


def carry(move: Move) -> str:
    """Send the memory; why it stays here, or nothing once QEMU says `completed`: then it never runs on here.

    Raises Failure AGAIN where a QEMU that does not answer may have sent it or not.
    """
    begun, why, end = False, "", time.monotonic() + START
    while True:
        move.look()
        told = move.ask("query-migrate")
        status = (told or {}).get("status", "none")
        under_way = status not in ("none", *ENDED)
        if status == "completed":
            if (state := move.state()) in SENT:
                return ""
            told = told if state else None  # that was its own arrival here
        if move.ended():
            return why or "its QEMU ended"
        if told is not None and not under_way and (begun or why):
            return why or told.get("error-desc") or f"QEMU says {status}"
        if time.monotonic() > end and why:
            move.missed(why := f"{why}; its QEMU does not answer")
            raise Failure(Exit.AGAIN, f"{move.name}: {why}")
        if not why and (why := move.broken() or ("it took too long" if time.monotonic() > end else "")):
            end = time.monotonic() + CANCEL
        if why:
            move.ask("migrate_cancel")
        elif under_way:
            begun = True
            move.say("migration", progress(told or {}))
        elif told is not None and all(there := port_of(move.facts.peer.incoming)):
            begun, end = begin(move, there[0]), time.monotonic() + END + move.vm.memory / SLOWEST


def begin(move: Move, port: int) -> bool:
    """With a way back QEMU says `completed` only when the peer has everything, and else lets the guest run on."""
    wanted = [{"capability": word, "state": True} for word in ("return-path", "auto-converge")]
    move.ask("migrate-set-capabilities", capabilities=wanted)
    move.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": DOWNTIME})
    move.ask("migrate", uri=f"tcp:{move.place.config.peer.storage}:{port}")
    return True


def end_guest(move: Move) -> None:
    """A guest that was sent never runs on here; its unit must not take its end for the guest's own."""
    while (state := move.state()) == "finish-migrate":
        time.sleep(PAUSE / 5)
    if state != "postmigrate":
        return
    move.say("local/outgoing", GONE)
    move.say("local/stopping", "")
    move.ask("quit")
    end_process(move, ANSWER)
    drbd.secondary(move.call.doer, move.name)  # the peer waits for this; its unit makes sure of it


def end_process(move: Move, seconds: float) -> None:
    """Of a QEMU that never writes again; it has so long to end by itself, and systemd starts no killed one again."""
    process = Process(move.call, move.name)
    if not process.gone(seconds):
        enqueue(move.call.doer, "stop", [unit("promote", move.name)])
        process.kill()
        process.gone(ANSWER)


def progress(told: dict[str, Any]) -> str:
    ram = told.get("ram", {})
    left, speed = ram.get("remaining", 0) / 2**20, ram.get("mbps", 0.0) / 8 * 1e6 / 2**20
    return f"moving: {left:.0f} MiB left, {speed:.0f} MiB/s"


# The receiving side


def receive(move: Move) -> int:
    """Let a guest wait for the other's memory, and run once it was handed over."""
    if not move.facts.me.incoming:
        if move.facts.me.running:
            return Exit.OK
        if why := broken(move.node, move.facts):
            raise Failure(Exit.NO, f"{move.name}: not taken over: {why}")
        minor = min(kernel.minors(kernel.by_res()).get(move.name, [0]))
        move.say("local/incoming", str(FIRST_PORT + minor % PORTS))
    if not move.facts.me.running and (why := take(move)):
        move.call.talk(f"{move.name}: not taken over: {why}")
        put_away(move)
    elif move.state() == "paused":
        move.ask("cont")
    return move.close("incoming")


def take(move: Move) -> str:
    """Why it must not run here, or nothing once it may."""
    port, _ = port_of(move.place.run.read(f"local/incoming/{move.name}") or "")
    if move.ended():
        if why := move.broken():
            return why
        move.say("local/incoming", str(port))
        begin_anew(move)
        if not drbd.two_primaries(move.call.doer, move.name, True):
            return "two primaries could not be allowed"
    end = 0.0
    while True:
        state = move.state()
        if handed_over(move.facts) and state in ("paused", "running"):
            move.say("local/running", "")
            return ""
        deaf = state == "paused" and (move.node.stale or move.node.links.starting)  # `gone` may have been said
        if move.facts.peer.outgoing != GONE and not deaf:
            end, why = 0.0, move.broken(state == "paused")
            if not why and move.ended():  # or not there yet; one that ended well is started again by nobody else
                move.say("local/incoming", str(port))
                started = wait_for(move.call.doer, "start", unit("vm", move.name))
                why = (started.talk or "its QEMU did not start") if started.status else ""
        else:  # it waits for the last step there, for a disk that is frozen, or for our own heartbeat
            end = end or time.monotonic() + END
            late = "it was not handed over in time" if time.monotonic() > end else ""
            why = "its QEMU ended" if state == "inmigrate" or move.ended() else late
        if why:
            return why
        if state == "inmigrate":
            move.say("local/incoming", f"{port} ready")
        move.look()


def begin_anew(move: Move) -> None:
    """End what is left of an earlier guest: its disk's unit still says primary, and systemd counts the starts."""
    if move.call.run.has("local/leaving"):
        return  # systemd ends the unit only after us
    wait_for(move.call.doer, "stop", unit("promote", move.name), STOP)
    enqueue(move.call.doer, "reset-failed", [unit("vm", move.name)])


def put_away(move: Move) -> None:
    """End the guest that waits and give its disk up; only then may it boot anywhere."""
    end_process(move, 0)
    begin_anew(move)
    drbd.secondary(move.call.doer, move.name)
    word = kernel.read().get(move.name)
    if word is not None and word.primary:
        raise Failure(Exit.AGAIN, f"{move.name}: its disk is still held open")


# A person


def person(move: Move) -> int:
    call, there = move.call, move.place.config.peer.name
    if not move.facts.me.running:
        where = f"runs on {there}: type it there" if move.facts.peer.running else "does not run"
        raise Failure(Exit.NO, f"{move.name} {where}")
    if why := refusal(move.node, move.facts):
        raise Failure(Exit.AGAIN, f"{move.name}: {why}")
    ask_to_move(call, move.place, move.name)
    if move.facts.at_home and decide(move.node).word == HOME:
        move.say("local/kept", "")
    enqueue(call.doer, "start", [unit("migrate", move.name)])
    if not (call.dry or call.options.no_wait):
        follow(move)
        call.answer(vm=move.name, running=there if move.facts.peer.running else move.place.config.me.name)
    return Exit.OK if call.dry or call.options.no_wait or move.facts.peer.running else Exit.NO


def follow(move: Move) -> None:
    """Show how it goes, until it has ended or --timeout is over; a signal ends the migration, too."""
    end, handed, word = time.monotonic() + move.call.timeout, 0.0, ""
    move.look()
    while move.facts.me.outgoing and time.monotonic() < end:
        move.look()
        word = move.place.run.read(f"migration/{move.name}") or ""
        if word == "handed over" and not handed:
            handed = time.monotonic()
        draw(word)
        if move.interrupted:
            enqueue(move.call.doer, "stop", [unit("migrate", move.name)])
            move.interrupted = False
    draw("")
    still = f"stood still for at most {time.monotonic() - handed + DOWNTIME / 1000:.1f} s" if handed else word
    move.call.talk(f"{move.name}: {still}")


def draw(word: str) -> None:
    """One line that is written over and over."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{word}", end="", file=sys.stderr, flush=True)


def work(call: Call) -> int:
    place = place_of(call)
    move = Move(call, place, named_vm(call, place.config))
    if not call.options.direct:
        return person(move)
    call.doer.timeout = START
    return send(move) if move.facts.me.outgoing else receive(move)


def main() -> int:
    return start("kc-migrate", "Move a VM to the peer while it runs.", work, arguments, timeout=3600)
