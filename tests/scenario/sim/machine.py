"""One simulated machine: its files, its processes, its kernel and its guests, on and off."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from kisscluster.base.config import Config, Vm
from kisscluster.base.run import Ended
from kisscluster.decide.migrate import GO_ON
from kisscluster.decide.words import Drbd
from tests.lab.standin.model import Refused
from tests.scenario.language import NETWORKS, NODES
from tests.scenario.sim import heart, stage
from tests.scenario.sim.clock import Life, Task, end, hang, wake
from tests.scenario.sim.disks import Side
from tests.scenario.sim.guests import Guest
from tests.scenario.sim.memory import Memory
from tests.scenario.sim.units import Units

if TYPE_CHECKING:
    from tests.scenario.sim.world import World


NETWORK_UP = 0.8  # of the time that booting takes: firmware and boot loader answer no ping


class Machine:
    """A node."""

    def __init__(self, world: World, name: str, config: Config, vms: dict[str, Vm]) -> None:
        self.world, self.name, self.config, self.vms = world, name, config, vms
        self.clock = world.clock
        self.peer = NODES[1 - NODES.index(name)]
        self.step = 0.0  # what somebody set the wall clock forward by
        self.slow = 0.0  # seconds that a sync takes on a slow disk
        self.memory = 1024  # MiB
        self.resets = 0
        self.looks = 0
        self.var = Memory("/var/lib/kisscluster", self.wall, self.clock.sleep, self._var_changed)
        self.life = Life()
        self.life.over = True
        self.answers_pings = False
        self.daemon: Any = None

    # Power

    @property
    def on(self) -> bool:
        return not self.life.over

    def boot(self) -> None:
        """Switch it on."""
        self.life = Life()
        self.run = Memory("/run/kisscluster", self.wall, self.clock.sleep, self._run_changed)
        self.run.pause = self.var.pause = self.world.between
        self.run.flagged = self._woken
        self.wakes: dict[str, float] = {}  # command: since when it is to look, and has not begun to
        self.sync_takes(self.slow)
        self.var.locks.clear()
        self.guests: dict[str, Guest] = {}
        self.links: deque[tuple[float, str]] = deque(maxlen=32)  # what stood in that file, from when on
        self.bell: Any = None
        self.units = Units(self)
        self.answers_pings = False
        self.world.rechecked()
        self.clock.after(NETWORK_UP * self.world.pace.boot, self.life, self._network_up)
        self.clock.after(self.world.pace.boot, self.life, self._booted)

    def _network_up(self) -> None:
        self.answers_pings = True

    def _booted(self) -> None:
        self.log("has booted")
        self.units.start_target()

    def off(self, why: str) -> None:
        """The power is gone."""
        if self.life.over:
            return
        self.log(why)
        end(self.clock, self.life)
        for side in self.sides():
            side.gone()
        self.world.rechecked()

    def reset(self) -> None:
        """Called by the process that resets this machine."""
        self.resets += 1
        self.world.judge.reset(self)
        self.clock.after(0, None, self._reset, self.life)
        self.clock.wait()

    def _reset(self, life: Life) -> None:
        if self.life is life:
            self.off("resets itself")
            self.boot()

    def sync_takes(self, seconds: float) -> None:
        """On a slow disk; 0 is one as any other."""
        self.slow = seconds
        self.var.sync_seconds = seconds or self.world.pace.sync

    def hang(self) -> None:
        hang(self.life)
        self.world.rechecked()

    def wake(self) -> None:
        wake(self.clock, self.life)
        self.world.rechecked()

    # Clocks and words

    def boottime(self) -> float:
        """No two looks at a clock see the same time."""
        self.looks += 1
        return self.clock.now + self.looks * 1e-9

    @property
    def now(self) -> float:
        """A look that no other look has to come before or after."""
        return self.clock.now

    def wall(self) -> float:
        return self.clock.now + self.step

    def log(self, line: str) -> None:
        self.world.log(self.name, line)

    def _run_changed(self, name: str) -> None:
        self.world.fact_changed(self, name)
        if name == "links":
            self.links.append((self.clock.now, self.run.peek(name) or ""))
        if name.startswith("wake/"):
            self.units.flagged(name[5:])
        folder, _, vm = name.rpartition("/")
        if folder == "local/outgoing" and self.run.peek(name) == GO_ON:
            self.world.calm.asked(self, vm)

    def _woken(self, name: str) -> None:
        self.wakes.setdefault(f"kc-{name.removeprefix('wake/')}", self.clock.now)

    def _var_changed(self, name: str) -> None:
        self.world.fact_changed(self, f"/var/{name}")

    # The network and the kernel

    def network_of(self, address: str) -> str:
        return next(network for network in NETWORKS if self.config.me._asdict()[network] == address)

    def arrived(self, network: str, datagram: bytes, sender: tuple[str, int]) -> None:
        """A datagram for kc-heartbeat; a machine that stands still keeps what fits into its buffer."""
        if self.on and self.daemon and self.bell and self.units.heartbeat:
            self.daemon.sockets[network].queue.append((datagram, sender))
            self.bell.ring()

    def sides(self) -> list[Side]:
        return [mirror.sides[self.name] for mirror in self.world.mirrors.values()]

    def kernel(self) -> dict[str, Drbd]:
        found = {side.mirror.name: side.word() for side in self.sides()}
        return {name: word for name, word in found.items() if word is not None}

    # Processes

    def clock_task(self) -> Task:
        task = getcurrent()
        assert isinstance(task, Task)
        return task

    def program(self, argv: tuple[str, ...], ended: Callable[[Any], object], seconds: float | None = None) -> Task:
        """A new process that runs one of the commands; `ended` gets its exit status, None where it was killed."""
        def body() -> int:
            self.clock.sleep(self.world.pace.start() if seconds is None else seconds)
            if argv[0] == "kc-heartbeat":
                return heart.run(self)
            return stage.PROGRAMS[argv[0]]()
        if argv[0] == "kc-vm-stop" and len(argv) == 2:
            self.world.calm.ended.add(argv[1])  # by a person, wherever it is by then
        task = self.clock.spawn(self.life, body, ended)
        task.owner, task.program, task.argv = self, argv[0], argv[1:]
        return task

    def execute(self, argv: tuple[str, ...], timeout: float) -> Ended:
        """A child of the current process, waited for."""
        self.world.between(argv[0])
        self.world.deed(self)
        if argv[0] == "drbdadm":
            self.clock.sleep(self.world.pace.tool())
            return self._drbdadm(*argv[1:])
        if argv[0] == "systemctl":
            self.clock.sleep(self.world.pace.tool() / 2)
            return self.units.systemctl(argv[1:], timeout)
        if argv[:2] == ("/bin/sh", "-c"):
            return self.world.fence(self, argv[2])
        return Ended(0, "", "")

    def _drbdadm(self, *words: str) -> Ended:
        verb, name = words[0], words[-1]
        side = self.world.mirrors[name].sides[self.name]
        try:
            return Ended(0, self._drbd(side, verb, words[1:-1]), "")
        except Refused as refused:
            return Ended(refused.code, "", str(refused))

    def _drbd(self, side: Side, verb: str, options: tuple[str, ...]) -> str:
        if verb == "primary":
            side.promote("--force" in options)
        elif verb == "secondary":
            side.settle(side.need().demote())
        elif verb == "adjust":
            side.adjust(self.life)
        elif verb == "outdate":
            side.outdate()
        elif verb == "disconnect":
            stale = side.need().leaves_a_primary
            if "--force" not in options and side.need().linked and side.ask("part"):
                side.settle(side.need().part_gracefully(leaving=True, stale=stale))
            else:
                side.settle(side.need().disconnect())
        elif verb == "connect":
            side.settle(side.need().connect("--discard-my-data" in options))
        elif verb == "net-options":
            side.allow_two_primaries(options[0].endswith("=yes"))
        elif verb == "get-gi":
            return side.meta.identifiers()
        elif verb == "dstate":
            word = side.word()
            return f"{word.disk}/{word.peer_disk}" if word else "Consistent" if side.meta.up_to_date else "Outdated"
        else:
            raise AssertionError(f"drbdadm {verb}")
        return ""

    # What units run beside the commands

    def post(self, vm: str, result: str, after: Callable[[], object]) -> None:
        """ExecStopPost= of kc-vm@VM."""
        task = self.program(("kc-vm-stop", "--ended", vm), lambda status: after())
        task.environment = {"SERVICE_RESULT": result}

    def failed(self, vm: str) -> None:
        """kc-vm-failed@VM."""
        with suppress(OSError):
            self.run.write(f"local/failed/{vm}", "")
            self.run.remove(f"local/running/{vm}")
            self.run.flag("wake/failover")

    def handler(self, side: Side, name: str, done: Callable[[int], object]) -> None:
        """One of DRBD's handlers, called by the kernel."""
        vm = side.mirror.name
        if name == "fence-peer":
            self.program(("kc-fence-peer", vm), lambda status: done(137 if status is None else status),
                         self.world.pace.start() + self.world.pace.tool())
        elif name == "before-resync-target":
            done(1 if self.var.has(f"ahead/{vm}") else 0)
        else:
            if name == "split-brain":
                self.var.write(f"split-brain/{vm}", "")
            if name != "after-resync-target":
                self.units.raise_flag("failover")
