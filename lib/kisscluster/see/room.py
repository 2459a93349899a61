"""What this node has for guests, and since when they start: the facts of decide/order.py."""

from kisscluster.base.clock import boottime
from kisscluster.base.config import Vm
from kisscluster.decide.order import Guest, Room
from kisscluster.see import kernel
from kisscluster.see.files import Place


def room(place: Place) -> Room:
    """Two starts for each processor keep it busy while one of them waits."""
    total = kernel.memory()
    left = max(0, total - place.config.reserve) if total else None
    return Room(left, 2 * kernel.processors(), place.config.pause)


def guest(place: Place, vm: Vm, running: bool) -> Guest:
    """A VM, as far as starting goes; a mark that cannot be read is from long ago, and holds nobody back."""
    try:
        line = place.run.read(f"begun/{vm.name}")
        begun = None if line is None else boottime() - float(line)
    except (OSError, ValueError):
        begun = float("inf")
    return Guest(vm.name, vm.order, vm.memory, running, begun)
