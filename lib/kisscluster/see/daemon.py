"""kc-heartbeat's loop: two UDP sockets, pings, the systemd watchdog. The only part of it that touches the network."""

import os
import secrets
import selectors
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from kisscluster.base.clock import boottime
from kisscluster.base.config import Config
from kisscluster.base.notify import notify
from kisscluster.base.state import State
from kisscluster.see import kernel
from kisscluster.see.beat import Beat, copy_of
from kisscluster.see.heart import NETWORKS, Heart, Times
from kisscluster.see.ping import Pinger
from kisscluster.see.protocol import seal, unseal

IP_FREEBIND = 15  # bind before the address exists: an interface may appear late (ip(7))
MOST_DATAGRAMS = 2000  # a loop; the rest waits, so that a flood cannot stop us from speaking
MOST_REPLIES = 50
QUIET = 10.0  # seconds between two lines about the same trouble
LULL = 3.0  # seconds without news: a failover or a fence handler has the processor for itself
URGENT = ("links", "peer/local/", "peer/yields/")
SAID = ("peer/local/stopped/", "peer/local/maintenance")  # to be kept here before the node that said it goes away


def open_socket(address: str, port: int) -> socket.socket:
    """A UDP socket bound to one of this node's addresses, whether it is there yet or not."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    out.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)
    out.bind((address, port))
    return out


class Daemon:
    """One run of kc-heartbeat."""

    def __init__(self, config: Config, key: bytes, run: State, state: State) -> None:
        self.config = config
        self.key = key
        self.run_dir = run
        times = Times(config.interval, config.deadtime, config.settle)
        self.heart = Heart(boottime(), times, config.cluster, (config.me.name, config.peer.name), secrets.token_hex(16))
        self.beat = Beat(run, state, not config.second, kernel.read)
        mine, peers = config.me._asdict(), config.peer._asdict()
        self.sockets = {network: open_socket(mine[network], config.port) for network in NETWORKS}
        self.peers = {network: (peers[network], config.port) for network in NETWORKS}
        self.pingers = {network: Pinger(mine[network], os.getpid() + index) for index, network in enumerate(NETWORKS)}
        self.selector = selectors.DefaultSelector()
        for network, sock in self.sockets.items():
            self.selector.register(sock, selectors.EVENT_READ, network)
        self.watched: dict[str, int] = {}
        self.due = 0.0
        self.asked = False
        self.news: float | None = None  # the last of what waits for the lull
        self.lan = False
        self.again: float | None = None  # when somebody has been unfit for long enough
        self.local: dict[str, str] = {}
        self.logged: dict[str, float] = {}

    def forever(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Until `alive` says no; systemd's READY=1 is said once the sockets are bound, which they are."""
        notify("READY=1\nSTATUS=listening")
        while alive():
            self.once()

    def once(self) -> None:
        """Wait for a datagram, an answer or the next interval, and act on it."""
        now = boottime()
        notify("WATCHDOG=1")
        events = self.selector.select(max(0.0, min(self.due, self._deadline(now), now + 1) - now))
        news = False
        for key, _ in events:
            news |= self._read(key.data)
        now = boottime()
        tick = now >= self.due
        before = self.heart.alive(now), self.heart.silent_since
        local = self.beat.local(self.heart) if tick or news else self.local
        self.heart.loop(now, local)
        if tick or news:
            self._round(now, local, tick)
        elif before != (self.heart.alive(now), self.heart.silent_since):
            self._round(now, self.beat.local(self.heart), tick=False, speak=False)
        else:
            self._publish(now)

    def _round(self, now: float, local: dict[str, str], tick: bool, speak: bool = True) -> None:
        """Marks, files, datagrams and pings.

        Datagrams go out at every interval, when our facts changed, and in answer to news: the echo that makes the
        peer's words about a change new enough must not wait for an interval.
        """
        before = self.local
        self.local = self.beat.mark(self.heart, local)
        self._publish(now)
        if speak or self.local != before:
            self._speak(now)
        if tick:
            self.due = now + self.config.interval
            self._ping()
        if self.heart.wants_ping() and not self.asked:
            self._ask("production", self.config.ping)
            self._ask("production", self.config.ping)
        self.asked = self.heart.wants_ping()

    def _publish(self, now: float) -> None:
        """What may permit or demand something wakes at once, the rest in a lull: a failover and a freeze change DRBD's
        states several times, and woken for each, the commands would run beside the handler and the promotion.
        """
        changed = self.beat.publish(now, self.heart, self.local)
        if changed:
            self.news = now  # what changes all the time is left to the tick
        urgent = any(name.startswith(URGENT) or "/Diskless" in self.local.get(name, "") for name in changed)
        if urgent or self._marks_lag(changed):
            self._wake("failover")
        if any(name.startswith(SAID) for name in changed):
            self._wake("quorum")
        self._wake_for_fitness(now, changed)
        if self.news is not None and now - self.news >= LULL:
            self._wake("failover", "quorum")
            self.news = None
        self._complain(now)

    def _marks_lag(self, changed: set[str]) -> bool:
        """Are both copies the same again? Until our mark `ahead` is gone, a cut cable would reset the peer (*20).

        Or is one written here alone, and the mark is missing, since the peer took its leave and nobody had to be asked?
        """
        vms = {name.rpartition("/")[2] for name in changed if "drbd/" in name}
        told = self.heart.peer_facts() if vms else {}
        copies = [(copy_of(self.local, vm), copy_of(told, vm)) for vm in vms]
        alone = any(me.drbd is not None and me.drbd.only_copy and not me.ahead for me, _ in copies)
        return alone or any(me.ahead and me.level and peer.level for me, peer in copies)

    def _wake_for_fitness(self, now: float, changed: set[str]) -> None:
        """The peer waits for our word that we are fit, or no longer; who waits until that has lasted is woken then."""
        up = [network for network in NETWORKS if self.heart.up(now, network)]
        lan = self.heart.ping_up(now) or "production" in up
        if up and lan != self.lan or "links" in changed and len(up) == len(NETWORKS):
            self._wake("quorum")  # the peer is alive: no failover waits for the processor
        if up and lan != self.lan or "peer/local/fit" in changed:
            self.again = now + self.config.deadtime + 3 * self.config.interval
        self.lan = lan if up else self.lan
        if self.again is not None and now >= self.again:
            self._wake("failover", "quorum")
            self.again = None

    def _deadline(self, now: float) -> float:
        """When the next link falls silent, if nothing arrives."""
        heard = [*(path.heard_at for path in self.heart.paths.values()), self.heart.machine.answered]
        ends = [when + self.config.deadtime for when in heard if when is not None]
        return min((end for end in ends if end > now), default=now + self.config.interval) + 0.001

    def _read(self, source: str) -> bool:
        if source.startswith("ping/"):
            for address, sent in self.pingers[source.removeprefix("ping/")].answers(MOST_REPLIES):
                self.heart.answered("switch" if address == self.config.ping else "machine", sent)
            return False
        news = False
        for _ in range(MOST_DATAGRAMS):
            try:
                datagram, sender = self.sockets[source].recvfrom(65535)
            except BlockingIOError:
                break
            except OSError:
                continue
            said = unseal(self.key, datagram) if sender == self.peers[source] else None
            news |= self.heart.receive(boottime(), source, said)
        return news

    def _speak(self, now: float) -> None:
        for payload in self.heart.speak(now, self._told()):
            try:
                self.sockets[payload.network].sendto(seal(self.key, payload), self.peers[payload.network])
            except OSError as error:
                self._log(f"{payload.network}: cannot send: {error.strerror}")
            except ValueError as error:
                self._log(str(error))

    def _told(self) -> dict[str, str]:
        """Not that we are fit where no LAN is seen, or where our own commands cannot know what is seen (*26)."""
        fit = self.heart.lan_since is not None and self.beat.published
        return {name: value for name, value in self.local.items() if fit or (name, value) != ("local/fit", "yes")}

    def _ping(self) -> None:
        self._ask("production", self.config.ping)
        for network in NETWORKS:
            self._ask(network, self.peers[network][0])

    def _ask(self, network: str, address: str) -> None:
        pinger = self.pingers[network]
        pinger.ask(address, boottime())
        if self.watched.get(network, -1) != pinger.fileno():
            self._watch(network, pinger)

    def _watch(self, network: str, pinger: Pinger) -> None:
        old = self.watched.pop(network, -1)
        if old >= 0:
            self.selector.unregister(old)
        if pinger.fileno() >= 0:
            self.watched[network] = pinger.fileno()
            self.selector.register(pinger.fileno(), selectors.EVENT_READ, f"ping/{network}")

    def _wake(self, *commands: str) -> None:
        try:
            for command in commands:
                self.run_dir.flag(f"wake/{command}")
        except OSError:
            self.beat.failed += 1

    def _complain(self, now: float) -> None:
        if self.heart.dropped:
            count = self.heart.dropped
            if self._log("dropped datagrams that were forged, replayed, late or not for this node", f": {count}"):
                self.heart.dropped = 0
        if self.beat.failed and self._log("cannot write state files: is /run full?"):
            self.beat.failed = 0

    def _log(self, line: str, detail: str = "") -> bool:
        """At most once in QUIET seconds for each kind of trouble; never blocks on a full journal."""
        now = boottime()
        if now - self.logged.get(line, -QUIET) < QUIET:
            return False
        self.logged[line] = now
        with suppress(OSError):
            os.write(sys.stderr.fileno(), f"{line}{detail}\n".encode())
        return True
