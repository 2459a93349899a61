"""What can happen to the simulated pair: every verb of the language."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import groupby

from tests.lab.standin.model import Meta
from tests.scenario.language import Step
from tests.scenario.sim.disks import GARBAGE
from tests.scenario.sim.machine import Machine
from tests.scenario.sim.stage import PROGRAMS
from tests.scenario.sim.wires import Port
from tests.scenario.sim.world import World

PLANNED = ("type", "reboot")  # nothing fails
PANIC_REBOOTS = 5.0  # seconds: kernel.panic=5


def do(world: World, step: Step) -> None:
    """One fault or repair; a typed command is waited for."""
    node = step.words[0] if step.words and step.words[0] in world.machines else ""
    world.log(node or "pair", f"== {step}")
    if step.verb not in PLANNED:
        world.calm.disturbed()
    FAULTS[step.verb](world, *step.words)
    world.rechecked()


def _power_off(world: World, node: str) -> None:
    world.machines[node].off("has no power")


def _power_on(world: World, node: str) -> None:
    if not world.machines[node].on:
        world.machines[node].boot()


def _panic(world: World, node: str) -> None:
    machine = world.machines[node]
    if machine.on:
        machine.off("panics")
        world.clock.after(PANIC_REBOOTS, None, _power_on, world, node)


def _hang(world: World, node: str) -> None:
    world.machines[node].hang()


def _wake(world: World, node: str) -> None:
    world.machines[node].wake()


def _carrier(up: bool) -> Callable[[World, str, str], None]:
    def change(world: World, node: str, network: str) -> None:
        world.wires.ports[node, network].carrier = up
        if network == "storage":  # one cable: both ends see it
            other = world.machines[node].peer
            world.wires.ports[other, network].carrier = up
    return change


def _drop(world: World, node: str, network: str, way: str) -> None:
    port = world.wires.ports[node, network]
    port.lost_in |= way in ("in", "")
    port.lost_out |= way in ("out", "")


def _delay(world: World, node: str, network: str, seconds: str) -> None:
    world.wires.ports[node, network].delay = float(seconds)


def _duplicate(world: World, node: str, network: str) -> None:
    world.wires.ports[node, network].twice = True


def _reorder(world: World, node: str, network: str) -> None:
    world.wires.ports[node, network].shuffled = True


def _narrow(world: World, node: str, network: str) -> None:
    world.wires.ports[node, network].narrow = True


def _pass(world: World, node: str, network: str) -> None:
    world.wires.ports[node, network] = Port(carrier=world.wires.ports[node, network].carrier)


def _part(parted: bool) -> Callable[[World, str], None]:
    def change(world: World, _: str) -> None:
        world.wires.parted = parted
    return change


def _switch(world: World, state: str) -> None:
    world.wires.switch = state == "on"


def _ping_address(world: World, state: str) -> None:
    world.wires.ping_address = state == "on"


def _kill(world: World, node: str, process: str, vm: str) -> None:
    machine = world.machines[node]
    if not machine.on:
        return
    if process == "qemu":
        if guest := machine.guests.get(vm):
            guest.end(137)
    elif process == "kc-heartbeat":
        if machine.units.heartbeat:
            machine.units.heartbeat.kill()
    else:
        for task in list(machine.life.tasks):
            if task.program == process and vm in task.argv and ("--direct" in task.argv) == (process == "kc-migrate"):
                task.kill()


def _end(world: World, node: str, _: str, vm: str) -> None:
    machine = world.machines[node]
    if machine.on and (guest := machine.guests.get(vm)):
        guest.end(0)


def _stop(world: World, node: str, process: str, vm: str) -> None:
    machine = world.machines[node]
    if process == "qemu":
        if guest := machine.guests.get(vm):
            guest.stop()
    else:
        machine.units.stop_heartbeat()


def _continue(world: World, node: str, process: str, vm: str) -> None:
    machine = world.machines[node]
    if process == "qemu":
        if guest := machine.guests.get(vm):
            guest.resume()
    else:
        machine.units.continue_heartbeat()


def _fail_disk(world: World, node: str, vm: str) -> None:
    side = world.mirrors[vm].sides[node]
    side.broken = True
    if side.state:
        side.fail()


def _mend_disk(world: World, node: str, vm: str) -> None:
    """The disk below is good again; what was on it is as it was, and the peer has what is missing."""
    side = world.mirrors[vm].sides[node]
    side.broken = False
    side.reattach()


def _replace_disk(world: World, node: str, vm: str) -> None:
    """An empty disk with fresh meta-data (create-md): the peer has everything."""
    side = world.mirrors[vm].sides[node]
    if not side.broken:
        return
    side.broken, side.content = False, GARBAGE
    side.meta = Meta()
    if side.state:
        side.state.meta = side.meta
    side.reattach()


def _fill(world: World, node: str) -> None:
    world.machines[node].run.full = True


def _free(world: World, node: str) -> None:
    world.machines[node].run.full = False


def _clock(world: World, node: str, seconds: str) -> None:
    world.machines[node].step += float(seconds)


def _slow_disk(world: World, node: str, seconds: str) -> None:
    world.machines[node].sync_takes(float(seconds))


def _quick_disk(world: World, node: str) -> None:
    world.machines[node].sync_takes(0.0)


def _stall(world: World, node: str, program: str, name: str, seconds: str, number: str) -> None:
    world.stalls[node, program, name] = int(number or 1), float(seconds)


def _reboot(world: World, node: str) -> None:
    machine = world.machines[node]
    if machine.on:
        machine.units.shut_down(lambda: _rebooted(machine))


def _rebooted(machine: Machine) -> None:
    machine.off("has shut down")
    machine.boot()


def _type(world: World, node: str, status: str, command: str) -> None:
    """A person's line, run to its end."""
    got: int | None = 0
    skipped = False
    words = shlex.shlex(command, posix=True, punctuation_chars=";&")
    words.whitespace_split = True
    for joint, line in groupby(words, lambda word: word in (";", "&&")):
        argv = tuple(line)
        if joint:
            skipped = argv[0] == "&&" and got != 0
        elif not skipped:
            got = typed(world, world.machines[node], argv)
    if got != int(status or 0):
        world.violated(f"{node}: {command}: ended with {got}, expected {status or 0}")


def typed(world: World, machine: Machine, argv: tuple[str, ...], patience: float = 200.0) -> int | None:
    """The exit status of a command that a person types, or None where it never ended."""
    ended: list[int | None] = []
    if argv[0] in PROGRAMS:
        task = machine.program(argv, ended.append)
    else:
        task = machine.clock.spawn(machine.life, lambda: _by_hand(world, machine, argv), ended.append)
        task.owner = machine
    end = world.clock.now + patience
    while not ended and world.clock.now < end and machine.on:
        world.run(0.05)
    return ended[0] if ended else None


def _by_hand(world: World, machine: Machine, argv: tuple[str, ...]) -> int:
    """What people type besides our own commands, as kc-status tells them."""
    world.calm.disturbed()
    if argv[0] in ("rm", "touch"):
        for path in argv[1:]:
            if not path.startswith("-"):
                store = machine.var if path.startswith(machine.var.root) else machine.run
                name = path.removeprefix(store.root + "/")
                _ = store.remove(name) if argv[0] == "rm" else store.write(name, "")
                if argv[0] == "touch" and name.startswith("ahead/"):
                    world.judge.accepted(name.partition("/")[2])
        return 0
    if "--force" in argv or "--discard-my-data" in argv:
        world.judge.accepted(argv[-1])
    return machine.execute(argv, 60).status


FAULTS: dict[str, Callable[..., None]] = {
    "power off": _power_off, "power on": _power_on, "panic": _panic, "hang": _hang, "wake": _wake,
    "unplug": _carrier(False), "plug": _carrier(True), "drop": _drop, "delay": _delay, "duplicate": _duplicate,
    "reorder": _reorder, "narrow": _narrow, "pass": _pass, "part": _part(True), "join": _part(False), "switch": _switch,
    "ping address": _ping_address, "kill": _kill, "end": _end, "stop": _stop, "continue": _continue,
    "fail disk": _fail_disk, "mend disk": _mend_disk, "replace disk": _replace_disk,
    "fill run": _fill, "free run": _free, "clock": _clock, "reboot": _reboot,
    "slow disk": _slow_disk, "quick disk": _quick_disk, "stall": _stall, "type": _type,
}
