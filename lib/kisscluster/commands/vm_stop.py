"""kc-vm-stop: shut a guest down; by a person through systemctl, by its unit --direct."""

import argparse
import os
import select
import signal
import time
from contextlib import suppress

from kisscluster.act import qemu
from kisscluster.act.qmp import Qmp
from kisscluster.act.systemd import unit, wait_for
from kisscluster.base.cli import Call, start
from kisscluster.base.config import Resource, Vm
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.notify import notify
from kisscluster.commands.common import facts_of, forget, named_vm, place_of, say_word, vm_argument, vm_or_unknown
from kisscluster.see.files import Place

PRESS_AGAIN = 10.0  # seconds; some guests miss the first press of the button
QUIT, KILL, PAUSE = 5.0, 5.0, 0.2  # seconds for QEMU to end by itself, and to die; and between two looks


def arguments(parser: argparse.ArgumentParser) -> None:
    vm_argument(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--direct", action="store_true", help="shut down QEMU here; for kc-vm@VM.service only")
    how.add_argument("--ended", action="store_true", help="tidy up after QEMU; for kc-vm@VM.service only")


def read(path: str) -> str:
    with open(path) as stream:
        return stream.read()


class Process:
    """The VM's QEMU, by its pid file; a pidfd cannot be fooled by a number that was used again."""

    def __init__(self, call: Call, name: str) -> None:
        self.fd = -1
        try:
            pid = int(read(f"{qemu.folder(call.run.root, name)}/pid"))
            self.fd = os.pidfd_open(pid)
            if f"kc-{name}"[:15] not in read(f"/proc/{pid}/comm"):
                self.close()
        except (OSError, ValueError):
            self.close()

    def gone(self, seconds: float) -> bool:
        """Wait for its end, at most so long."""
        if self.fd < 0:
            return True
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    __del__ = close


def tell(call: Call, name: str, command: str) -> None:
    """One QMP command; a QEMU that does not answer is ended by the next, harder step."""
    try:
        with Qmp(f"{qemu.folder(call.run.root, name)}/qmp", 2.0) as qmp:
            qmp.execute(command)
    except Failure as failure:
        call.talk(f"{name}: {failure}")


def patience_with(vm: Resource) -> float:
    """Seconds that the guest may take; a file that cannot be read is no reason to pull its plug."""
    return vm.stop_timeout if isinstance(vm, Vm) else 120.0


def direct(call: Call, vm: Resource) -> int:
    """Power button until stop_timeout, then quit, then SIGKILL; 124 while the process is still there (FACTS 3)."""
    if os.environ.get("EXIT_CODE"):
        return Exit.OK  # systemd calls ExecStop= also after a QEMU that ended by itself, which nobody asked to
    socket = f"{qemu.folder(call.run.root, vm.name)}/qmp"
    for command in ("system_powerdown", "quit"):
        call.doer.say(
            f'printf \'%s\' \'{{"execute":"qmp_capabilities"}}{{"execute":"{command}"}}\' | '
            f"socat - UNIX-CONNECT:{socket}"
        )
    if call.dry:
        return Exit.OK
    # before the process is looked for: one that is only just starting is stopped by systemd, and not by its guest
    call.run.write(f"local/stopping/{vm.name}", "")
    process = Process(call, vm.name)
    if process.gone(0):
        return Exit.OK
    if call.run.has(f"local/incoming/{vm.name}") and not call.run.has(f"local/running/{vm.name}"):
        process.kill()  # it has never run here; to quit it would flush a disk that may be frozen
        return Exit.OK if process.gone(KILL) else Exit.TIMEOUT
    patience = patience_with(vm)
    notify(f"EXTEND_TIMEOUT_USEC={int((patience + QUIT + KILL + 10) * 1e6)}")
    end = time.monotonic() + patience
    while time.monotonic() < end:
        tell(call, vm.name, "system_powerdown")
        if process.gone(min(PRESS_AGAIN, end - time.monotonic())):
            return Exit.OK
    call.talk(f"{vm.name}: did not shut down within {patience:g} s, ending it")
    tell(call, vm.name, "quit")
    if process.gone(QUIT):
        return Exit.OK
    process.kill()
    return Exit.OK if process.gone(KILL) else Exit.TIMEOUT


def ended(call: Call, vm: Resource) -> int:
    """After QEMU: its interfaces and marks go; a guest that switched itself off stays off."""
    if isinstance(vm, Vm):
        qemu.remove_taps(call.doer, vm)
    clean = os.environ.get("SERVICE_RESULT") == "success"
    asked = call.remove(call.run, f"local/stopping/{vm.name}")
    if clean and not asked and call.run.has(f"local/running/{vm.name}"):
        call.talk(f"{vm.name}: the guest switched itself off; start it again with: kc-vm-start {vm.name}")
        call.write(call.run, f"local/off/{vm.name}", "")
    # after a failure systemd starts it again, and kc-vm-failed@ takes the mark away when it does not
    if clean or asked:
        call.remove(call.run, f"local/running/{vm.name}")
    call.wake("failover")
    return Exit.OK


def person(call: Call, place: Place, vm: Vm) -> int:
    """Say that it stays stopped, here and after a failover; then stop it where it runs."""
    node, facts = facts_of(place, vm)
    if not facts.stopped:
        say_word(call, place, f"stopped/{vm.name}", True)
    if facts.me.running:
        done = wait_for(call.doer, "stop", unit("vm", vm.name))
        if done.status:
            call.talk(f"{vm.name}: {done.talk}")
    end = time.monotonic() + call.timeout
    # whoever ran it when it died does not run it now; whoever is merely silent may
    while not call.dry and (facts.me.running or (facts.peer.running or facts.moving) and not node.dead):
        if time.monotonic() > end:
            return Exit.TIMEOUT
        time.sleep(PAUSE)
        node, facts = facts_of(place, vm)
    forget(call, place, vm.name)
    call.talk(f"{vm.name} stays stopped until: kc-vm-start {vm.name}")
    call.answer(vm=vm.name, running="no")
    return Exit.OK


def work(call: Call) -> int:
    if call.options.ended:
        return ended(call, vm_or_unknown(call))
    if call.options.direct:
        return direct(call, vm_or_unknown(call))
    place = place_of(call)
    vm = named_vm(call, place.config)
    call.doer.timeout = call.timeout = max(call.timeout, vm.stop_timeout + QUIT + KILL + 10)
    return person(call, place, vm)


def main() -> int:
    return start("kc-vm-stop", "Shut a guest down.", work, arguments, timeout=140)
