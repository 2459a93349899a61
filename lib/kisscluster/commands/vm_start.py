"""kc-vm-start: run a VM; by a person through systemctl, by its unit --direct."""

import argparse
import os
import shlex
import time

from kisscluster.act import qemu
from kisscluster.act.systemd import unit, wait_for
from kisscluster.base.cli import Call, start
from kisscluster.base.config import Vm
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.run import environment
from kisscluster.commands.common import PAUSE, facts_of, forget, named_vm, place_of, say_word, vm_argument
from kisscluster.decide.migrate import port_of
from kisscluster.decide.quorum import HOLD, decide
from kisscluster.decide.rules import belongs_here
from kisscluster.see import kernel
from kisscluster.see.files import Place


def arguments(parser: argparse.ArgumentParser) -> None:
    vm_argument(parser)
    parser.add_argument("--direct", action="store_true", help="become QEMU here; for kc-vm@VM.service only")


def alone(call: Call, name: str) -> None:
    """While a VM moves, both disks are primary: a guest boots only once the other one is gone."""
    end = time.monotonic() + call.timeout
    while (word := kernel.read().get(name)) and word.connected and word.peer_role == "Primary":
        if time.monotonic() > end:
            raise Failure(Exit.UNSAFE, f"{name}: its disk is primary on the peer, too")
        time.sleep(PAUSE)


def direct(call: Call, place: Place, vm: Vm) -> int:
    """Prepare and become QEMU; the disk's role is the interlock: nobody opens a Secondary."""
    devices = kernel.volumes(vm.name)
    incoming = None if call.run.has(f"local/running/{vm.name}") else call.run.read(f"local/incoming/{vm.name}")
    command = qemu.command(vm, call.run.root, devices or [f"{kernel.by_res()}/{vm.name}/0"])
    if incoming is not None:
        command += qemu.waiting(place.config.me.storage, port_of(incoming)[0])
    elif not call.dry:
        alone(call, vm.name)
    qemu.prepare(call.doer, vm, call.run.root, devices)
    go = call.doer.say(shlex.join(command))
    if not devices:
        raise Failure(Exit.UNAVAILABLE, f"{kernel.by_res()}/{vm.name}: no volume: its DRBD resource is not up here")
    if go:
        if incoming is None:
            call.run.write(f"local/running/{vm.name}", "")
        if call.run.has("turn"):
            call.wake("failover")
        os.execvpe(command[0], command, environment())
    return Exit.OK


def elsewhere(call: Call, place: Place, vm: Vm) -> int:
    """It belongs to the peer: our word reaches it within an interval, and it starts the VM by itself."""
    end = time.monotonic() + call.timeout
    while not call.dry and not (facts := facts_of(place, vm)[1]).peer.running:
        if facts.peer.failed or facts.peer.off:
            there = place.config.peer.name
            call.talk(f"{vm.name} ended on {there} and stays down until you type there: kc-vm-start {vm.name}")
            return Exit.NO
        if time.monotonic() > end:
            call.talk(f"{vm.name} did not start on {place.config.peer.name} yet: kc-status says why")
            return Exit.TIMEOUT
        time.sleep(PAUSE)
    call.answer(vm=vm.name, running=place.config.peer.name)
    return Exit.OK


def person(call: Call, place: Place, vm: Vm) -> int:
    """Take back what keeps it down, then start its unit here if it belongs here."""
    node, facts = facts_of(place, vm)
    if facts.stopped:
        say_word(call, place, f"stopped/{vm.name}", False)
    forget(call, place, vm.name)
    word = decide(node).word
    here = facts.at_home if word == HOLD else belongs_here(word, facts)
    if node.alive and not facts.me.running and (facts.peer.running or facts.moving or not here):
        return elsewhere(call, place, vm)
    ended = wait_for(call.doer, "start", unit("vm", vm.name))
    if ended.status == 0:
        call.answer(vm=vm.name, running=place.config.me.name)
        return Exit.OK
    why = place.run.read(f"pending/{vm.name}")
    call.talk(f"{vm.name}: {why or ended.talk}")
    call.answer(vm=vm.name, running="no")
    return Exit.AGAIN if why else Exit.UNAVAILABLE


def work(call: Call) -> int:
    place = place_of(call)
    vm = named_vm(call, place.config)
    return direct(call, place, vm) if call.options.direct else person(call, place, vm)


def main() -> int:
    return start("kc-vm-start", "Run a VM.", work, arguments)
