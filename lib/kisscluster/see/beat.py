"""What kc-heartbeat reads and writes under /run/kisscluster: facts in, marks and the peer's words out."""

import os
from collections.abc import Callable

from kisscluster.base.state import State, is_vm_name
from kisscluster.decide.facts import Copy
from kisscluster.decide.marks import next_even, next_yields
from kisscluster.decide.words import Drbd
from kisscluster.see.heart import Heart
from kisscluster.see.protocol import is_fact

MOST_VMS = 500


def copy_of(facts: dict[str, str], vm: str) -> Copy:
    """One node's word about one VM, from its facts."""
    return Copy(
        drbd=Drbd.parse(facts.get(f"drbd/{vm}")),
        even=f"even/{vm}" in facts,
        yields=f"yields/{vm}" in facts,
        claim=f"claim/{vm}" in facts,
        ahead=f"ahead/{vm}" in facts,
    )


class Beat:
    """The files of one kc-heartbeat; raises OSError only where nothing can be read at all."""

    def __init__(self, run: State, state: State, first: bool, kernel: Callable[[], dict[str, Drbd]]) -> None:
        self.run = run
        self.state = state
        self.first = first  # this node is the first of the configuration's two
        self.kernel = kernel
        self.marks = {f"{kind}/{vm}": "" for kind in ("even", "yields") for vm in run.names(kind) if is_vm_name(vm)}
        self.written: dict[str, str] = {}
        self.failed = 0
        self.published = True  # could `alive` be written?
        for name in self._stale_files():
            run.remove(name)

    def _stale_files(self) -> list[str]:
        """Facts of an earlier run of the daemon that may no longer be true; even and yields stand."""
        found = ["links"]
        for top in ("drbd", "peer"):
            for folder, _, names in os.walk(self.run.path(top)):
                found += [os.path.relpath(f"{folder}/{name}", self.run.root) for name in names]
        return found

    # -- this node's facts

    def local(self, heart: Heart) -> dict[str, str]:
        """All that this node may tell, as it is now."""
        facts = {f"drbd/{name}": str(word) for name, word in self.kernel().items() if is_vm_name(name)}
        facts |= self._folder("claim")
        facts |= self._folder("local")
        for folder in ("running", "stopped", "outgoing", "incoming", "failed", "off", "missed", "kept"):
            facts |= self._folder(f"local/{folder}")
        if decision := self.run.read("decision"):
            facts["decision"] = decision[:200]
        facts |= self.marks
        facts |= {f"ahead/{vm}": "" for vm in self._vms(facts, heart) if self.state.has(f"ahead/{vm}")}
        return {name: value for name, value in facts.items() if is_fact(name, value)}

    def _folder(self, folder: str) -> dict[str, str]:
        out = {}
        for name in self.run.names(folder):
            path = f"{folder}/{name}"
            if is_fact(path, "") and not os.path.isdir(self.run.path(path)):
                out[path] = self.run.read(path) or ""
        return out

    @staticmethod
    def _vms(facts: dict[str, str], heart: Heart) -> list[str]:
        about = [name for name in [*facts, *heart.told] if name.startswith(("drbd/", "claim/", "even/", "yields/"))]
        return sorted({name.partition("/")[2] for name in about})[:MOST_VMS]

    # -- marks

    def mark(self, heart: Heart, local: dict[str, str]) -> dict[str, str]:
        """Bring even/ and yields/ up to date: first take back, then give, then look again (DESIGN 3, *).

        `local`: this node's facts, read just now; as they are afterwards.
        """
        heart.look(local)
        before, new = dict(self.marks), self._next(heart, local)
        for name in sorted(set(self.marks) - set(new)):
            self._forget(name)
        missing = [name for name in sorted(new) if not {name, name.replace("yields/", "even/")} & set(self.marks)]
        given = [name for name in missing if self._keep(name, "")]
        self.marks |= dict.fromkeys(given, "")
        for name in given:
            vm = name.partition("/")[2]
            if name.startswith("yields/") and self.state.has(f"ahead/{vm}"):
                self._forget(name)
        if self.marks != before:
            local = self.local(heart)
            heart.look(local)
        return local

    def _next(self, heart: Heart, local: dict[str, str]) -> dict[str, str]:
        out = {}
        peer_facts = heart.peer_facts()
        for vm in self._vms(local, heart):
            me, peer = copy_of(local, vm), copy_of(peer_facts, vm)
            gives_way = self._gives_way(local.get(f"claim/{vm}"), peer_facts.get(f"claim/{vm}"))
            yields = next_yields(me.yields, me, peer, heart.knows(vm) and heart.peer_boot != "", gives_way)
            if yields:
                out[f"yields/{vm}"] = ""
            elif next_even(me.even, Copy(drbd=me.drbd, ahead=me.ahead), peer, copy_of(heart.told, vm)):
                out[f"even/{vm}"] = ""
        return out

    def _gives_way(self, mine: str | None, peers: str | None) -> bool:
        """Both claim: the home keeps its claim; where both or neither say home, the first node does."""
        if (mine == "home") != (peers == "home"):
            return peers == "home"
        return not self.first

    # -- files

    def publish(self, now: float, heart: Heart, local: dict[str, str]) -> set[str]:
        """Write what changed, and name it."""
        changed = {"links"} if self._keep("links", str(heart.links(now))) else set()
        wanted = {name: value for name, value in local.items() if name.startswith("drbd/")}
        wanted |= {f"peer/{name}": value for name, value in heart.peer_facts().items()}
        if heart.peer_boot:
            wanted["peer/boot"] = heart.peer_boot
        # whoever looks in between must not see a word about a disk without the marks that came with it
        gone = [name for name in self.written if name not in wanted and name not in ("links", "alive")]
        for name in sorted(gone, key=lambda name: not name.startswith("peer/drbd/")):
            changed |= {name} if self._forget(name) else set()
        for name, value in sorted(wanted.items(), key=lambda fact: fact[0].startswith("peer/drbd/")):
            changed |= {name} if self._keep(name, value) else set()
        self.published = self._keep("alive", f"{now:.3f}")
        return changed - {"peer/decision"}

    def _keep(self, name: str, value: str) -> bool:
        """True when the file says so now and did not before; a full /run is tried again on the next loop."""
        if self.written.get(name) == value and not name.startswith("alive"):
            return False
        try:
            self.run.write(name, value)
        except OSError:
            self.failed += 1
            return False
        if not name.startswith(("even/", "yields/")):
            self.written[name] = value
        return True

    def _forget(self, name: str) -> bool:
        try:
            self.run.remove(name)
        except OSError:
            self.failed += 1
            return False
        self.written.pop(name, None)
        self.marks.pop(name, None)
        return True
