"""Look at a pair of nodes: what a condition of a scenario means in the real worlds."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.lab.pair import NODES, VMS, Dot, Pair, other
from tests.lab.say import LabError
from tests.scenario.language import Condition
from tests.scenario.worlds import World

# one look costs one process in the node: under tcg each further one takes a tenth of a second
LOOK = """
cat "${KC_PROC_DRBD:-/proc/drbd}"
read -r line < /proc/sys/kernel/random/boot_id && echo "boot $line"
cd /run/kisscluster || exit 0
for name in links decision; do read -r line < $name && echo "$name $line"; done
echo marks even/* yields/* claim/* pending/* local/leavin[g]
echo moving $(grep -ls ^moving migration/*)
cd /var/lib/kisscluster && echo marks ahead/* split-brain/*
"""
STATUS = "kc-status; echo status $?"
DEVICE = re.compile(r"\s*(\d+): cs:(\w+) ro:(\w+)/(\w+) ds:(\w+)/(\w+) . ([rs])")
FOLDERS = {"even": "even", "yielded": "yields", "claimed": "claim", "pending": "pending", "ahead": "ahead"}
LATE_DOTS, LATE = 2, 5.0


@dataclass
class Look:
    """What one node knew at one moment."""

    boot: str = ""
    links: str = ""
    decision: str = ""
    marks: set[str] = field(default_factory=set)
    disks: dict[str, tuple[str, ...]] = field(default_factory=dict)  # VM: connection, roles, disks, flag
    moving: set[str] = field(default_factory=set)  # VMs whose memory is on its way
    status: str = ""
    code: int | None = None

    @classmethod
    def parse(cls, text: str) -> Look:
        """From what LOOK and STATUS printed."""
        look = cls()
        minors = {facts.minor: vm for vm, facts in VMS.items()}
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if match := DEVICE.match(line):
                look.disks[minors[int(match[1])]] = match.groups()[1:]
            elif word in ("boot", "links"):
                setattr(look, word, rest)
            elif word == "moving":
                look.moving = {path.rpartition("/")[2] for path in rest.split()}
            elif word == "marks":
                look.marks |= set(rest.split())
            elif word == "decision":
                look.decision = rest.partition(" ")[0]
            elif word == "status":
                look.code = int(rest)
            else:
                look._take_status(line)
        return look

    def _take_status(self, line: str) -> None:
        self.status += f"{line}\n"
        if match := re.match(r"  decision  (\w+):", line):
            self.decision = match[1]

    def sees(self, wanted: str) -> bool:
        """Does the line of the file `links` say all of that?"""
        return set(wanted.split(",")) <= set(self.links.split())

    def even(self) -> bool:
        """Are both copies of every disk good and connected, as far as this node sees?"""
        return len(self.disks) == len(VMS) and all(
            disk[0] == "Connected" and disk[3:5] == ("UpToDate", "UpToDate") for disk in self.disks.values())


class View:
    """A pair during one scenario: who was told to do what, and what can be seen of it."""

    def __init__(self, pair: Pair, world: World) -> None:
        self.pair, self.world = pair, world
        self.hung: set[str] = set()
        self.woken: list[tuple[float, str]] = []
        self.expected = {node: pair.boots(node) for node in NODES}  # and what the scenario itself causes

    # Nodes

    def look(self, node: str, status: bool = False) -> Look | None:
        """None for a node that does not answer."""
        if node in self.hung or not self.pair.is_on(node):
            return None
        try:
            text = self.pair.run(node, LOOK + (STATUS if status else ""), self.world.patience, check=False).stdout
        except (subprocess.SubprocessError, OSError, LabError, KeyError):
            return None
        found = Look.parse(text)
        return found if found.boot else None

    def look_at_both(self, status: bool = False) -> list[Look]:
        """Of those that answer."""
        with ThreadPoolExecutor(len(NODES)) as pool:
            return [look for look in pool.map(lambda node: self.look(node, status), NODES) if look]

    def resets(self, node: str) -> int:
        """How often a node booted that nobody booted."""
        return max(0, self.pair.boots(node) - self.expected[node])

    # Guests

    def dots(self, vm: str, since: float = 0.0) -> list[Dot]:
        """The dots of a guest, without those that lay in a node which stood still and were passed on when it woke.

        That is the dot on its way and the one whose write the other copy had before the node stood still.
        """
        found = self.pair.dots(vm).after(since)
        for moment, node in self.woken:
            late = [dot for dot in found if dot.node == node and moment <= dot.time < moment + LATE][:LATE_DOTS]
            if late and self._ran_elsewhere(vm, node, moment):
                found = [dot for dot in found if dot not in late]
        return found

    def _ran_elsewhere(self, vm: str, node: str, moment: float) -> bool:
        before = [dot for dot in self.pair.dots(vm).all() if dot.time < moment]
        return bool(before) and before[-1].node == other(node)

    def running(self, vm: str) -> set[str]:
        """Where a guest runs now: who printed lately, unless the other one began after it had ended."""
        recent = self.dots(vm, time.monotonic() - self.world.window)
        first = {node: min((dot.time for dot in recent if dot.node == node), default=0.0) for node in NODES}
        return {dot.node for dot in recent if dot.time >= first[other(dot.node)]}

    # Conditions

    def holds(self, condition: Condition, cheap: bool = False) -> bool:
        """Is it true now? cheap: by what lies in files, without starting a command of KISScluster."""
        return bool(getattr(self, f"_{condition.kind}")(condition.words, cheap)) != condition.negated

    def _runs(self, words: tuple[str, ...], _cheap: bool) -> bool:
        vm, where = words
        count = {"both": 2, "one": 1, "none": 0}.get(where)
        return where in self.running(vm) if count is None else len(self.running(vm)) == count

    def _frozen(self, words: tuple[str, ...], _cheap: bool) -> bool:
        return self._disk_of(words)[-1:] == ("s",)

    def _disk(self, words: tuple[str, ...], _cheap: bool) -> bool:
        vm, word, node = words
        disk = self._disk_of((vm, node))
        return bool(disk) and word in (disk[0], disk[1], disk[3])

    def _disk_of(self, words: tuple[str, ...]) -> tuple[str, ...]:
        look = self.look(words[1])
        return look.disks.get(words[0], ()) if look else ()

    def _moves(self, words: tuple[str, ...], _cheap: bool) -> bool:
        vm, node = words
        look = self.look(node)
        return look is not None and vm in look.moving

    def _mark(self, words: tuple[str, ...], _cheap: bool) -> bool:
        vm, mark, node = words
        look = self.look(node)
        return look is not None and f"{FOLDERS[mark]}/{vm}" in look.marks

    def _decides(self, words: tuple[str, ...], cheap: bool) -> bool:
        look = self.look(words[0], status=not cheap and self.world.asks)
        return look is not None and look.decision == words[1]

    def _sees(self, words: tuple[str, ...], _cheap: bool) -> bool:
        look = self.look(words[0])
        return look is not None and look.sees(words[1])

    def _says(self, words: tuple[str, ...], _cheap: bool) -> bool:
        look = self.look(words[0], status=True)
        return look is not None and words[1] in look.status

    def _resets(self, words: tuple[str, ...], _cheap: bool) -> bool:
        return self.resets(words[0]) > 0

    def _off(self, words: tuple[str, ...], _cheap: bool) -> bool:
        return not self.pair.is_on(words[0])

    def _healthy(self, _words: tuple[str, ...], _cheap: bool) -> bool:
        if not all(len(self.running(vm)) == 1 for vm in VMS):  # costs nothing
            stopped = self._stopped()
            if not all(vm in stopped or len(self.running(vm)) == 1 for vm in VMS):
                return False
        # a mirror that is not whole yet is seen without keeping the nodes from mending it
        return self._whole(status=False) and self._whole(status=True)

    def _whole(self, status: bool) -> bool:
        looks = self.look_at_both(status)
        return len(looks) == len(NODES) and all(look.even() and (not status or look.code == 0) for look in looks)

    def _stopped(self) -> set[str]:
        """The guests that a person stopped."""
        if not all(self.pair.is_on(node) and node not in self.hung for node in NODES):
            return set()
        found = self.pair.run(NODES[0], "cd /run/kisscluster/local/stopped && grep -l yes *", check=False).stdout
        return set(found.split())

