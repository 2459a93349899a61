"""What kc-monitor and kc-console share: a VM's socket, or where the VM is instead."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from kisscluster.act import qemu, sockets
from kisscluster.base.cli import Call
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import facts_of, named_vm, place_of

# what a person or a shell ends a conversation with
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


@contextmanager
def socket_of(call: Call, name: str) -> Iterator[str]:
    """The path of a socket of the VM named on the command line; a failure says where the VM runs, or who is attached.

    The socket is tried before any fact is asked: a heartbeat that is dead is no reason to refuse a console.
    """
    place = place_of(call)
    vm = named_vm(call, place.config)
    path = f"{qemu.folder(call.run.root, vm.name)}/{name}"
    try:
        yield path
    except Failure as failure:
        if failure.status != Exit.UNAVAILABLE:
            raise
        if other := sockets.attached(path):
            raise Failure(Exit.AGAIN, f"{path}: busy: {other} is attached") from None
        _, facts = facts_of(place, vm)
        if facts.me.running:
            raise
        where = f"runs on {place.config.peer.name}: type it there" if facts.peer.running else "does not run"
        raise Failure(Exit.NO, f"{vm.name} {where}") from None
