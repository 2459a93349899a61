"""What kc-heartbeat knows: sequence numbers, silence, pings, the peer's words. Time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from kisscluster.decide.facts import Links
from kisscluster.decide.words import Drbd
from kisscluster.see.protocol import Payload

NETWORKS = ("storage", "production")
TIMELESS = ("local/", "decision")  # facts that no change here makes too old
REMEMBERED = 4  # boot ids of the peer that we echo; the proven one is never forgotten
RETIRED = 64


@dataclass(frozen=True)
class Times:
    """Of kisscluster.conf, in seconds."""

    interval: float
    deadtime: float
    settle: float


@dataclass
class Path:
    """One network towards the peer."""

    heard_at: float | None = None  # when the last datagram arrived that counts
    echoed: float = 0.0  # when we had sent what the peer last heard from us here
    seen: dict[str, int] = field(default_factory=dict)


@dataclass
class Asked:
    """Pings to one address or several: when the last one that was answered had been sent."""

    answered: float | None = None

    def within(self, now: float, seconds: float) -> bool:
        return self.answered is not None and now - self.answered < seconds


class Heart:
    """The state of one run of kc-heartbeat; it does no input or output of its own."""

    def __init__(self, now: float, times: Times, cluster: str, names: tuple[str, str], boot: str) -> None:
        self.times = times
        self.cluster = cluster
        self.me, self.peer = names
        self.boot = boot
        self.seq = 0
        self.sent: list[tuple[int, float]] = []  # (seq, when) of the last deadtime
        self.floor = 1  # an echo below this proves nothing any more
        self.paths = {network: Path() for network in NETWORKS}
        self.peer_boot = ""
        self.peer_seq = -1
        self.retired: list[str] = []
        self.told: dict[str, str] = {}  # the peer's facts in its last words
        self.told_echo = -1  # ... which were said after it had heard this seq of ours
        self.since: dict[str, int] = {}  # VM: a word about it must echo at least this seq
        self.local: dict[str, str] = {}
        self.switch = Asked()
        self.machine = Asked()  # the peer's own addresses
        self.confirmed: set[float] = set()  # pings of the switch sent after the peer fell silent
        self.silent_since: float | None = now
        self.drbd_connected = False
        self.traced = False
        self.started = now  # of this run, or when the last standstill ended
        self.looped = now
        self.spoken = now
        self.unbroken = False
        self.lan_since: float | None = None
        self.dropped = 0

    # -- the peer speaks

    def receive(self, now: float, network: str, said: Payload | None) -> bool:
        """Take in one datagram; True when the peer's facts may have changed. None: not authentic."""
        if said is None or (said.cluster, said.node, said.network) != (self.cluster, self.peer, network):
            self.dropped += 1
            return False
        path = self.paths[network]
        if said.boot in self.retired or said.seq <= path.seen.get(said.boot, -1):
            self.dropped += 1
            return False
        self._remember(path, said)
        echo = said.heard.get(self.boot, -1)
        if echo < self.floor:
            return False
        path.heard_at, path.echoed = now, dict(self.sent).get(echo, 0.0)
        self._spoken(now, path.echoed)
        return self._listen(said, echo)

    def _spoken(self, now: float, echoed: float) -> None:
        """The peer heard us when we sent what it echoes, no later: who is mute still hears it, but is dead to it."""
        self.spoken = max(self.spoken, echoed)
        if now - echoed < self.times.deadtime / 2:
            self.unbroken = True

    def _remember(self, path: Path, said: Payload) -> None:
        path.seen.pop(said.boot, None)
        path.seen[said.boot] = said.seq
        for boot in [boot for boot in path.seen if boot != self.peer_boot][:-REMEMBERED]:
            del path.seen[boot]

    def _listen(self, said: Payload, echo: int) -> bool:
        if said.boot != self.peer_boot:
            self.retired = [*self.retired, self.peer_boot][-RETIRED:]
            self.peer_boot, self.peer_seq, self.told_echo = said.boot, -1, -1
        if said.seq <= self.peer_seq:
            return False
        self.peer_seq = said.seq
        changed = said.facts != self.told or any(self.told_echo < since <= echo for since in self.since.values())
        self.told, self.told_echo = said.facts, echo
        return changed

    # -- time passes

    def loop(self, now: float, local: dict[str, str]) -> None:
        """Once an interval, and whenever something happened; `local`: this node's own facts."""
        if now - self.looped > self.times.deadtime / 2:
            self._stood_still(now)
        self.looped = now
        self.sent = [(seq, when) for seq, when in self.sent if now - when < self.patience]
        self.floor = max(self.floor, self.sent[0][0] if self.sent else self.seq + 1)
        self.look(local)
        words = [Drbd.parse(value) for name, value in local.items() if name.startswith("drbd/")]
        self.drbd_connected = any(word is not None and word.connected for word in words)
        self._silence(now)
        self._lan(now)

    def look(self, local: dict[str, str]) -> None:
        """Take in this node's facts; what changed for a VM makes the peer's words of it too old (DESIGN 5, *)."""
        names = set(local) | set(self.local)
        for name in names:
            kind, _, vm = name.partition("/")
            if kind in ("drbd", "claim", "ahead", "even", "yields") and local.get(name) != self.local.get(name):
                self.since[vm] = self.seq + 1
        self.local = dict(local)

    def _stood_still(self, now: float) -> None:
        """What arrives next may have lain in a queue: only echoes of what is sent from now on count."""
        self.floor = self.seq + 1
        self.unbroken = False
        self.started = now
        self.lan_since = None

    def _silence(self, now: float) -> None:
        if self.alive(now):
            self.silent_since = None
            self.confirmed = set()
        elif self.silent_since is None or self.traced and not self.trace(now):
            self.silent_since = now
            self.confirmed = set()
        self.traced = self.trace(now)
        heard = max(self.spoken, self.switch.answered or self.spoken)
        if now - heard > self.times.deadtime / 2:
            self.unbroken = False

    def _lan(self, now: float) -> None:
        if not (self.switch.within(now, self.times.deadtime) or self.up(now, "production")):
            self.lan_since = None
        elif self.lan_since is None:
            self.lan_since = now

    # -- what is published

    @property
    def patience(self) -> float:
        """How old our datagram may be that the peer heard last: it is an interval old in the best of times."""
        return self.times.deadtime + self.times.interval

    def up(self, now: float, network: str) -> bool:
        """We hear the peer there, and what it says shows that it hears us there."""
        path = self.paths[network]
        heard = path.heard_at is not None and now - path.heard_at < self.times.deadtime
        return heard and now - path.echoed < self.patience

    def alive(self, now: float) -> bool:
        return any(self.up(now, network) for network in NETWORKS)

    def ping_up(self, now: float) -> bool:
        """While the peer is silent, only pings that were sent after that prove that this node can reach anything."""
        fresh = self.switch.within(now, self.times.deadtime)
        return fresh and (self.silent_since is None or len(self.confirmed) >= 2)

    def trace(self, now: float) -> bool:
        """Another sign of life of the peer's machine; its silence counts from the last one."""
        return self.machine.within(now, self.times.deadtime) or self.drbd_connected

    def wants_ping(self) -> bool:
        """Is the answer of two more pings all that is missing?"""
        return self.silent_since is not None and len(self.confirmed) < 2

    def links(self, now: float) -> Links:
        """The line of the file `links`."""
        return Links(
            storage=self.up(now, "storage"),
            production=self.up(now, "production"),
            ping=self.ping_up(now),
            trace=self.trace(now),
            unbroken=self.unbroken,
            steady=self.lan_since is not None and now - self.lan_since >= self.times.settle,
            starting=now - self.started < self.times.deadtime,
        )

    def answered(self, target: str, sent: float) -> None:
        """A ping that was sent then came back, from the switch or from one of the peer's addresses."""
        asked = self.switch if target == "switch" else self.machine
        asked.answered = max(sent, asked.answered or sent)
        if target == "switch" and self.silent_since is not None and sent >= self.silent_since:
            self.confirmed.add(sent)

    def peer_facts(self) -> dict[str, str]:
        """The peer's last words, without those about a VM that are older than the last change here."""
        told = self.told.items()
        return {name: value for name, value in told if name.startswith(TIMELESS) or self.knows(name.partition("/")[2])}

    def knows(self, vm: str) -> bool:
        """Are the peer's words about this VM newer than the last change here?"""
        return self.told_echo >= self.since.get(vm, 0)

    def speak(self, now: float, facts: dict[str, str]) -> list[Payload]:
        """The datagrams to send now, one a network."""
        self.seq += 1
        self.sent.append((self.seq, now))
        return [
            Payload(self.cluster, self.me, network, self.boot, self.seq, dict(path.seen), facts)
            for network, path in self.paths.items()
        ]
