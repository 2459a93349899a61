"""kc-heartbeat on a simulated machine: the real daemon, with wires for sockets."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kisscluster.see import daemon
from kisscluster.see.beat import Beat
from kisscluster.see.daemon import Daemon
from tests.scenario.language import NETWORKS
from tests.scenario.sim.clock import Task
from tests.scenario.sim.memory import Memory
from tests.scenario.sim.stage import read_kernel

if TYPE_CHECKING:
    from tests.scenario.sim.machine import Machine

MOST_QUEUED = 200


class Bell:
    """What a selector waits for: somebody put something into one of its queues."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.queues: dict[Any, tuple[deque[Any], str]] = {}
        self.sleeper: Task | None = None
        self.ringing = False

    def register(self, queue: Any, _events: int, data: str) -> None:
        self.queues[id(queue)] = (queue.queue, data)

    def unregister(self, _: object) -> None:
        pass

    def ring(self) -> None:
        sleeper, self.sleeper = self.sleeper, None
        if sleeper:
            self.machine.clock.after(0, sleeper.life, sleeper.resume, None)

    def ready(self) -> list[tuple[SimpleNamespace, int]]:
        return [(SimpleNamespace(data=data), 1) for queue, data in self.queues.values() if queue]

    def select(self, timeout: float) -> list[tuple[SimpleNamespace, int]]:
        found = self.ready()
        if found:
            return found
        clock, task = self.machine.clock, self.machine.clock_task()
        self.sleeper = task
        timer = clock.after(timeout, task.life, self.ring)
        clock.wait()
        timer.cancel()
        return self.ready()


class Socket:
    """A UDP socket on one of the networks."""

    def __init__(self, machine: Machine, network: str) -> None:
        self.machine, self.network = machine, network
        self.queue: deque[tuple[bytes, tuple[str, int]]] = deque(maxlen=MOST_QUEUED)

    def recvfrom(self, _: int) -> tuple[bytes, tuple[str, int]]:
        if not self.queue:
            raise BlockingIOError
        return self.queue.popleft()

    def sendto(self, datagram: bytes, address: tuple[str, int]) -> None:
        machine = self.machine
        sender = (machine.config.me._asdict()[self.network], machine.config.port)
        machine.world.wires.send(machine.name, machine.peer, self.network,
                                 lambda: machine.world.machines[machine.peer].arrived(self.network, datagram, sender))


class Pinger:
    """see/ping.py's Pinger over the wires."""

    def __init__(self, machine: Machine, network: str) -> None:
        self.machine, self.network = machine, network
        self.queue: deque[tuple[str, float]] = deque()

    def fileno(self) -> int:
        return NETWORKS.index(self.network)

    def ask(self, address: str, now: float) -> None:
        machine = self.machine
        target = "switch" if address == machine.config.ping else machine.peer
        life, bell = machine.life, machine.bell

        def answered() -> None:
            if not life.over and machine.bell is bell:
                self.queue.append((address, now))
                bell.ring()
        machine.world.wires.ask(machine.name, target, self.network, answered)

    def answers(self, most: int) -> list[tuple[str, float]]:
        out = [self.queue.popleft() for _ in range(min(most, len(self.queue)))]
        return out


class SimBeat(Beat):
    """The files are in memory."""

    def _stale_files(self) -> list[str]:
        assert isinstance(self.run, Memory)
        return [name for name in self.run.everything() if name == "links" or name.startswith(("drbd/", "peer/"))]


class SimDaemon(Daemon):
    """The real loop."""

    def __init__(self, machine: Machine) -> None:
        bell = machine.bell = Bell(machine)
        self.machine = machine
        patched = {"Beat": SimBeat,
                   "open_socket": lambda address, port: Socket(machine, machine.network_of(address)),
                   "Pinger": lambda address, identity: Pinger(machine, machine.network_of(address)),
                   "selectors": SimpleNamespace(DefaultSelector=lambda: bell, EVENT_READ=1),
                   "secrets": SimpleNamespace(token_hex=lambda size: machine.world.token()),
                   "kernel": SimpleNamespace(read=read_kernel)}
        kept = {name: vars(daemon)[name] for name in patched}
        vars(daemon).update(patched)
        try:
            super().__init__(machine.config, b"secret", machine.run, machine.var)
        finally:
            vars(daemon).update(kept)
        for network, pinger in self.pingers.items():
            bell.register(pinger, 1, f"ping/{network}")
            self.watched[network] = pinger.fileno()

    def _log(self, line: str, detail: str = "") -> bool:
        return True


def run(machine: Machine) -> int:
    """The process kc-heartbeat."""
    machine.daemon = SimDaemon(machine)
    machine.daemon.forever()
    return 0
