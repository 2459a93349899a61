"""What must be true in every scenario of the real worlds, whatever happens in it."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from tests.lab.pair import NODES, VMS, Pair, command_seconds, longest_pause, other
from tests.scenario.language import Scenario
from tests.scenario.view import Look, View

# A guest prints nine dots a second: of two that run at once no dots are further apart; one that moves takes 0.4 s.
APART = 0.2
OVERTAKEN = "the peer went on without this node"
FREEZE = re.compile(r"^ *([\d.]+) .*drbd (\w+):.* susp\( ([01]) -> [01] \)")
HANDLER = re.compile(r"^ *([\d.]+) .*kc-fence-peer.*?: (\w+): (DRBD asks, writes are frozen|answering)")
PROMISED = 2.0  # seconds from DRBD's notice until writes go on, where starting a command takes no time
STARTS = 3  # a handler, what it waits for from the peer, and what runs beside it
MARK = "== journal"
SILENT = 6.0  # and with the time that DRBD takes to notice, where commands are quick
ACCEPTS_LOSS = ("--force", "--discard-my-data", "kisscluster/ahead/")


class Invariants:
    """Watches one scenario."""

    def __init__(self, scenario: Scenario, view: View) -> None:
        self.scenario, self.view, self.pair = scenario, view, view.pair
        self.started = time.monotonic()
        self.cursors = {node: _cursor(self.pair, node) for node in NODES}
        self.data_given_up = scenario.header["survived"] == "no"
        self.failed_disks: set[tuple[str, str]] = set()

    def note(self, verb: str, words: tuple[str, ...]) -> None:
        """What the scenario does that changes what may be expected."""
        if verb == "type" and any(hint in words[-1] for hint in ACCEPTS_LOSS):
            self.data_given_up = True
        if verb == "fail disk":
            self.failed_disks.add((words[0], words[1]))

    # At any time

    def check(self) -> None:
        """After each step."""
        for vm in VMS:
            if self.scenario.header["survived"] != "no":
                self._one_writer(vm)
            if not self.data_given_up:
                self._nothing_lost(vm)

    def _one_writer(self, vm: str) -> None:
        dots = self.view.dots(vm, self.started)
        for before, after in zip(dots, dots[1:], strict=False):
            gap = after.time - before.time
            both = before.node != after.node and gap < APART
            assert not both, f"{vm} wrote on {before.node} and {gap:.2f} s later on {after.node}"

    def _nothing_lost(self, vm: str) -> None:
        last = self.pair.dots(vm).last()
        if last:
            node = last.node if (last.node, vm) not in self.failed_disks else other(last.node)
            self._copy_knows(node, vm)

    def _copy_knows(self, node: str, vm: str) -> None:
        told = self.pair.acknowledged(vm)
        found = self.pair.counter(node, vm)
        assert found >= told, f"{vm}: {told} writes acknowledged, {found} on the disk of {node}"

    # At the end

    def check_end(self, only_storage: bool) -> None:
        """After the last step."""
        self.check()
        with ThreadPoolExecutor(len(NODES)) as pool:
            looks = dict(zip(NODES, pool.map(lambda node: self.view.look(node, status=True), NODES), strict=True))
            here = [node for node in NODES if looks[node]]
            told = dict(zip(here, pool.map(self._told, here), strict=True))
        if len(here) == len(NODES) and all(look and look.even() for look in looks.values()):
            self._at_rest(told, [look for look in looks.values() if look])
        for node, (_, journal) in told.items():
            self._no_split_brain(node, looks[node], journal)
            self._only_overtaken_nodes_reset(node, journal)
            if only_storage:
                self._freezes(node, journal)

    def _told(self, node: str) -> tuple[str, str]:
        """The units that failed on a node, and what its journal says since the scenario began."""
        journal = f"journalctl -q --no-pager -o short-monotonic --after-cursor='{self.cursors[node]}' | tr -d '[]'"
        command = f"systemctl --failed --plain --no-legend; echo {MARK}; {journal}"
        failed, _, said = self.pair.run(node, command, 60, check=False).stdout.partition(f"{MARK}\n")
        return failed, said

    def _at_rest(self, told: dict[str, tuple[str, str]], looks: list[Look]) -> None:
        for node, (failed, _) in told.items():
            named = all(look.code for look in looks)
            assert not failed or named, f"{node}: kc-status is content with failed units: {failed}"
            for vm in VMS:
                if not self.data_given_up:
                    self._copy_knows(node, vm)

    def _no_split_brain(self, node: str, look: Look | None, journal: str) -> None:
        if self.scenario.header["survived"] != "no" and not self.data_given_up:
            marks = [mark for mark in look.marks if mark.startswith("split-brain/") and "*" not in mark] if look else []
            assert not marks and "Split-Brain" not in journal, f"{node}: split brain {marks}"

    def _only_overtaken_nodes_reset(self, node: str, journal: str) -> None:
        resets, overtaken = self.view.resets(node), journal.count(OVERTAKEN)
        assert resets <= overtaken, f"{node} was reset {resets} times and overtaken {overtaken} times"

    def _freezes(self, node: str, journal: str) -> None:
        """Only the storage network was touched, so the peer's word is there at once."""
        longest = max([*freezes(journal, FREEZE, "0"), *freezes(journal, HANDLER, "DRBD asks, writes are frozen")],
                      default=0.0)
        if longest > PROMISED:
            limit = PROMISED + STARTS * max(command_seconds(self.pair, node), *handler_starts(journal), 0.0)
            assert longest <= limit, f"{node}: frozen for {longest:.1f} s, allowed {limit:.1f}"
        if self.view.world.name == "container":
            for vm in VMS:
                dots = self.view.dots(vm, self.started)
                assert longest_pause(dots, self.started) < SILENT, f"{vm} was silent for too long"


def freezes(journal: str, pattern: re.Pattern[str], begin: str) -> list[float]:
    """How long each freeze lasted, by the node's own clock."""
    out, since = [], dict[str, float]()
    for match in filter(None, map(pattern.match, journal.splitlines())):
        moment, vm, what = float(match[1]), match[2], match[3]
        if what == begin:
            since[vm] = moment
        elif vm in since:
            out.append(moment - since.pop(vm))
    return out


def handler_starts(journal: str) -> list[float]:
    """What the kernel's notice and a handler's first word lay apart: how slow the node was at that very moment."""
    out, since = [], dict[str, float]()
    for line in journal.splitlines():
        if match := FREEZE.match(line):
            since[match[2]] = float(match[1])
        elif (match := HANDLER.match(line)) and match[2] in since:
            out.append(float(match[1]) - since.pop(match[2]))
    return out


def _cursor(pair: Pair, node: str) -> str:
    said = pair.run(node, "journalctl -q -n 1 -o cat --show-cursor --no-pager").stdout
    return said.rpartition("-- cursor: ")[2].strip()
