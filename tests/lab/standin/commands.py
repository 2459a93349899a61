"""drbdadm's commands, with drbdadm's exit codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from tests.lab.standin import config
from tests.lab.standin.device import Device, load_meta, meta_path, save_meta
from tests.lab.standin.model import Conn, Disk, Meta, Refused, Role, attached, outdated

if TYPE_CHECKING:
    from tests.lab.standin.daemon import Daemon

Answer = tuple[int, str, str]


async def run(daemon: Daemon, arguments: Sequence[str]) -> Answer:
    """One call of drbdadm: exit code, stdout, stderr."""
    options = [argument for argument in arguments if argument.startswith("-")]
    words = [argument for argument in arguments if not argument.startswith("-")]
    if not words or words[0] not in COMMANDS:
        return 1, "", f"drbdadm: Unknown command '{' '.join(words[:1])}'\n"
    if len(words) == 1 and words[0] != "status":
        return 1, "", f"drbdadm: '{words[0]}' requires an argument\n"
    known = config.names()
    resources = known if words[1:] in ([], ["all"]) else [word.partition("/")[0] for word in words[1:]]
    return await _each(daemon, words[0], resources, known, options)


async def _each(daemon: Daemon, verb: str, resources: Sequence[str], known: Sequence[str],
                options: Sequence[str]) -> Answer:
    worst, text, errors = 0, "", ""
    for name in resources:
        if name not in known:
            return 1, text, f"'{name}' not defined in your config (for this host).\n"
        try:
            text += await COMMANDS[verb](daemon, name, options) or ""
        except Refused as refused:
            worst = max(worst, refused.code)
            errors += f"{name}: {refused}\nCommand 'drbdadm {verb} {name}' terminated with exit code {refused.code}\n"
    return worst, text, errors


def _up(daemon: Daemon, name: str) -> Device:
    if name not in daemon.devices:
        raise Refused(10, "Failure: (158) Unknown resource")
    return daemon.devices[name]


async def _adjust(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    settings = config.load_to_connect(name)
    if "-d" in options or "--dry-run" in options:
        return
    device = daemon.devices.get(name) or daemon.up(settings)
    device.config = settings
    if device.state.disk is Disk.DISKLESS:  # it attaches first, and ends where that fails (drbd-utils 9.22)
        raise Refused(1, "pread(5,...) in v08_md_disk_to_cpu failed: Input/output error")
    two = device.state.options.two_primaries != settings.options.two_primaries
    if two and device.state.linked:
        device.set_two_primaries(settings.options.two_primaries)
    device.state.options = settings.options
    if device.state.conn is Conn.STANDALONE:
        device.settle(device.state.connect())


async def _bring_up(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    if name in daemon.devices:
        raise Refused(1, "Device is configured!")
    await _adjust(daemon, name, options)


async def _down(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    device = daemon.devices.get(name)
    if device is None:
        return
    if device.state.opens:
        raise Refused(11, "State change failed: (-12) Device is held open by someone")
    if device.state.conn is not Conn.STANDALONE:
        await device.disconnect(force=False)
    device.settle(device.state.demote())
    daemon.down(name)


async def _primary(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    await _up(daemon, name).promote("--force" in options)


async def _secondary(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    device = _up(daemon, name)
    async with device.lock:
        if device.state.role is Role.PRIMARY:
            device.settle(device.state.demote())


async def _outdate(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    device = daemon.devices.get(name)
    if device:
        async with device.lock:
            device.settle(device.state.outdate())
    else:
        disk = config.load(name).disk
        save_meta(disk, outdated(load_meta(disk)))


async def _disconnect(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    await _up(daemon, name).disconnect("--force" in options)


async def _connect(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    device = _up(daemon, name)
    device.config = config.load_to_connect(name)
    async with device.lock:
        device.settle(device.state.connect("--discard-my-data" in options))


async def _role(daemon: Daemon, name: str, _options: Sequence[str]) -> str:
    state = _up(daemon, name).state
    return f"{state.role}/{state.peer_role}\n"


async def _cstate(daemon: Daemon, name: str, _options: Sequence[str]) -> str:
    return f"{_up(daemon, name).state.conn}\n"


async def _dstate(daemon: Daemon, name: str, _options: Sequence[str]) -> str:
    device = daemon.devices.get(name)
    if device:
        return f"{device.state.disk}/{device.state.peer_disk}\n"
    settings = config.load(name)
    return f"{attached(load_meta(settings.disk), settings.options)}\n"


async def _net_options(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    device = _up(daemon, name)
    for option in options:
        key, _, value = option.partition("=")
        if key == "--allow-two-primaries":
            device.set_two_primaries(value in ("", "yes"))


async def _resume_io(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    device = _up(daemon, name)
    device.settle(device.state.resume_io())


async def _create_md(daemon: Daemon, name: str, options: Sequence[str]) -> None:
    if name in daemon.devices:
        raise Refused(20, "Device is configured!")
    disk = config.load(name).disk
    if meta_path(disk).exists() and "--force" not in options:
        raise Refused(1, "stdin not a TTY")
    save_meta(disk, Meta())


async def _new_current_uuid(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    _up(daemon, name).skip_sync()


async def _resize(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    _up(daemon, name).resize()


async def _get_gi(daemon: Daemon, name: str, _options: Sequence[str]) -> str:
    device = daemon.devices.get(name)
    if not device and not meta_path(config.load(name).disk).exists():
        raise Refused(1, "")  # DRBD 8.4 says nothing at all
    meta = device.state.meta if device else load_meta(config.load(name).disk)
    return meta.identifiers() + "\n"


async def _dump_md(daemon: Daemon, name: str, _options: Sequence[str]) -> str:
    if name in daemon.devices:
        raise Refused(20, "Device is configured!")
    return repr(load_meta(config.load(name).disk))


async def _detach(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    device = _up(daemon, name)
    device.settle(device.state.disk_failed())


async def _attach(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    _up(daemon, name).attach()


async def _status(daemon: Daemon, name: str, _options: Sequence[str]) -> str:
    device = _up(daemon, name)
    state, flags = device.state, ""
    if state.frozen:
        flags = " suspended:fencing"
    text = f"{name} role:{state.role}{flags}\n  disk:{state.disk}\n"
    if not state.linked:
        return text + f"  peer connection:{'Connecting' if state.conn is Conn.WAITING else state.conn}\n\n"
    replication = "Established" if state.conn is Conn.CONNECTED else str(state.conn)
    return text + (f"  peer role:{state.peer_role}\n"
                   f"    replication:{replication} peer-disk:{state.peer_disk}\n\n")


async def _wait_connect(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    if _up(daemon, name).state.conn is Conn.WAITING:
        raise Refused(5, "timed out")


async def _invalidate(daemon: Daemon, name: str, _options: Sequence[str]) -> None:
    device = _up(daemon, name)
    if device.state.role is Role.PRIMARY or device.state.linked:
        raise Refused(11, "State change failed: (-2) Need access to UpToDate data")
    device.settle(device.state.spoil(Disk.INCONSISTENT))


Command = Callable[["Daemon", str, Sequence[str]], Awaitable[str | None]]
COMMANDS: dict[str, Command] = {
    "adjust": _adjust, "up": _bring_up, "down": _down, "primary": _primary, "secondary": _secondary,
    "outdate": _outdate, "disconnect": _disconnect, "connect": _connect, "role": _role, "cstate": _cstate,
    "dstate": _dstate, "net-options": _net_options, "resume-io": _resume_io, "create-md": _create_md,
    "new-current-uuid": _new_current_uuid, "resize": _resize, "get-gi": _get_gi, "show-gi": _get_gi,
    "dump-md": _dump_md, "detach": _detach, "attach": _attach, "status": _status,
    "wait-connect": _wait_connect, "invalidate": _invalidate,
}
