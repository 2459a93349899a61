"""How this node is set up, by its files and by what its tools say: the facts of decide/setup.py."""

import json
import os
from contextlib import suppress

from kisscluster.base.config import Vm, read_secret
from kisscluster.base.exits import Failure
from kisscluster.base.run import Doer, Ended
from kisscluster.base.state import State
from kisscluster.decide.facts import NodeFacts
from kisscluster.decide.setup import ASK, DROP_IN, Setup, needs
from kisscluster.see import kernel
from kisscluster.see.files import Place, vm_facts


def read(place: Place, vms: list[Vm], node: NodeFacts, doer: Doer) -> Setup:
    """Asks what changes nothing. Of three echoes of a whole MTU, less 28 bytes of headers, one must come back."""
    root = State(os.environ.get("KC_ROOT", ""))
    unwanted = ("grep", "-qsx", "RuntimeWatchdogSec=0", root.path(DROP_IN[1:]))
    asked = [name for name in ASK if name != "watchdog" or root.has("dev/watchdog0") and doer.look(*unwanted).status]
    told = {name: doer.look(*ASK[name].split()) for name in asked}
    words = {name: None if ended.status else ended.stdout.strip() for name, ended in told.items()}
    config, up = place.config, frozenset(kernel.read())
    links = None
    with suppress(ValueError):
        links = json.loads(doer.look("ip", "-json", "-details", "address").stdout)
    own = {address.get("local"): link for link in links or [] for address in link.get("addr_info", [])}
    heard = node.alive and not node.stale
    size = own[config.me.storage]["mtu"] if heard and node.links.storage and config.me.storage in own else 0
    ping = ("ping", "-q", "-c3", "-i0.2", "-W1", "-Mdo", f"-s{size - 28}", config.peer.storage)
    version = (State("").read(kernel.proc_drbd()) or "").removeprefix("version: ").partition(" ")[0]
    dump = doer.look("drbdadm", "dump") if version.startswith("8.4.") else Ended(127, "", "")
    still = [vm.name for vm in vms if vm.name in up and not vm_facts(place, vm.name, vm.node).moving]
    wanted = needs(config, vms)
    here = [need for need, who in wanted.items() if (root.has(need[1:]) if who else _runs(doer, need))]
    return Setup(
        {**words, "panic": root.read("proc/sys/kernel/panic"), "drbd": version},
        not node.conflict if heard and node.peer.config else None,
        _secret(config.secret),
        None if links is None else {address: link["ifname"] for address, link in own.items()},
        frozenset(link["ifname"] for link in links or [] if link.get("linkinfo", {}).get("info_kind") == "bridge"),
        {0: 0, 1: size}.get(doer.look(*ping).status) if size else None,
        frozenset(wanted).difference(here),
        None if dump.status else dump.stdout,
        "" if dump.status in (0, 124, 127) else dump.talk,
        up,
        {name: _changes(doer.look("drbdadm", "-d", "adjust", name)) for name in still if not dump.status},
    )


def _runs(doer: Doer, word: str) -> bool:
    """Can a line in the shell begin so? Of a path the shell always says that it can."""
    return os.access(word, os.X_OK) if "/" in word else not doer.look("sh", "-c", f"command -v {word}").status


def _secret(file: str) -> str | None:
    try:
        read_secret(file)
    except Failure as failure:
        return str(failure)
    except OSError:
        return None
    return ""


def _changes(dry: Ended) -> str | None:
    """What `drbdadm adjust` would set; whom the kernel tells nothing, takes the resource for new."""
    if dry.status or " new-resource " in dry.stdout:
        return None
    return " ".join(line for line in dry.stdout.splitlines() if "-options " in line)
