"""The facts that every decision is made from; where they come from is see/'s business."""

from __future__ import annotations

from typing import NamedTuple

from kisscluster.decide.words import Drbd


class Links(NamedTuple):
    """The file `links`: what kc-heartbeat sees, read as one (DESIGN 3)."""

    storage: bool = True
    production: bool = True
    ping: bool = True
    trace: bool = True
    unbroken: bool = True
    steady: bool = True
    starting: bool = False

    @classmethod
    def parse(cls, line: str) -> Links | None:
        """None where a fact is missing or is none of up, down, yes, no: half the facts are no facts."""
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        needed = ("storage", "production", "ping", "trace", "unbroken", "steady")
        if any(words.get(name) not in (("up", "down") if name in needed[:4] else ("yes", "no")) for name in needed):
            return None
        facts = {name: words[name] in ("up", "yes") for name in needed}
        return cls(**facts, starting=words.get("starting") == "yes")

    def __str__(self) -> str:
        ways = [f"{name}={'up' if getattr(self, name) else 'down'}" for name in self._fields[:4]]
        marks = [f"{name}={'yes' if getattr(self, name) else 'no'}" for name in ("unbroken", "steady", "starting")]
        return " ".join(ways + marks)


class Side(NamedTuple):
    """What one node says of itself beyond its VMs."""

    fit: bool = True
    steady: bool = True
    standby: bool = False
    leaving: bool = False
    config: str = ""
    told: bool = True  # has it said whether it is fit?


class NodeFacts(NamedTuple):
    """Everything that the decision is made from."""

    stale: str = ""  # why the heartbeat's files cannot be trusted, or nothing
    links: Links = Links()
    me: Side = Side()
    peer: Side = Side()
    maintenance: bool = False
    fence: bool = False  # the peer has a fence command
    me_fence: bool = False  # this node has one, which the peer runs
    proven: bool = False  # the peer was proven off since its last word
    me_unfit_long: bool = True  # where unfit at all: for deadtime and two intervals
    peer_unfit_long: bool = True
    failback: str = ""  # how VMs go home to a peer that is steady for failback_after, or nothing

    @property
    def alive(self) -> bool:
        """The peer's cluster commands work: its word counts."""
        return self.links.storage or self.links.production

    @property
    def silent_machine(self) -> bool:
        """No sign of life on any path, and the switch still answers me."""
        return not self.alive and not self.links.trace and self.links.ping

    @property
    def dead(self) -> bool:
        """The peer is off for all that may be decided from it; a fence command that we have must say so too."""
        return not self.alive and (self.proven or self.silent_machine and not self.fence)

    @property
    def lan(self) -> bool:
        return self.links.ping or self.links.production

    @property
    def fit(self) -> bool:
        return self.lan and not self.me.standby and not self.me.leaving

    @property
    def conflict(self) -> bool:
        """The two nodes' configuration files differ, as far as both are known."""
        return bool(self.me.config and self.peer.config and self.me.config != self.peer.config)


class Copy(NamedTuple):
    """One node's word about its copy of a VM."""

    drbd: Drbd | None = None
    even: bool = False
    yields: bool = False
    claim: bool = False
    ahead: bool = False
    running: bool = False
    failed: bool = False  # its QEMU failed too often there
    off: bool = False  # the guest switched itself off there
    outgoing: str = ""  # it hands the VM over: go, gone or over (decide/migrate.py)
    incoming: str = ""  # it takes the VM over: the port of its QEMU, and ready once that listens
    tried: str = ""  # the decision for which its last move from there was tried and failed, and still stands
    missed: str = ""  # why it failed
    kept: bool = False  # a person moved it away from there: it is not brought home

    @property
    def level(self) -> bool:
        """By this node's own word both copies are the same."""
        return self.drbd is not None and self.drbd.even


class VmFacts(NamedTuple):
    """Everything that is known about one VM; `peer` holds words newer than the last change here."""

    name: str
    at_home: bool  # this node is its home
    me: Copy = Copy()
    peer: Copy = Copy()
    stopped: bool = False  # by a person
    pending: bool = False
    split: bool = False  # DRBD's split-brain handler left its mark
    handler: bool = False  # kc-fence-peer is at work
    drbd_age: float = 0.0  # seconds since this node's DRBD word changed

    @property
    def connected(self) -> bool:
        return self.me.drbd is not None and self.me.drbd.connected

    @property
    def primary(self) -> bool:
        return self.me.drbd is not None and self.me.drbd.primary

    @property
    def moving(self) -> bool:
        """Is it being handed from one node to the other, and may run on neither for a moment?"""
        return any((self.me.outgoing, self.me.incoming, self.peer.outgoing, self.peer.incoming))

    @property
    def down(self) -> bool:
        """Not to be started here: a person stopped it, or it ended here for good."""
        return self.stopped or self.me.failed or self.me.off

    @property
    def frozen(self) -> bool:
        return self.me.drbd is not None and self.me.drbd.frozen

    @property
    def deaf(self) -> bool:
        """A frozen primary without the peer, and no fence handler at work for it."""
        return self.primary and self.frozen and not self.connected and not self.handler

    @property
    def peer_primary(self) -> bool:
        """By either node's word, the peer's copy is primary."""
        mine = self.me.drbd is not None and self.me.drbd.connected and self.me.drbd.peer_role == "Primary"
        return mine or self.peer.drbd is not None and self.peer.drbd.primary
