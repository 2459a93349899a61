"""kc-heartbeat: say "alive" on both networks, listen, ping; publish what it hears."""

import ctypes
import os

from kisscluster.base.cli import Call, start
from kisscluster.base.config import load, read_secret
from kisscluster.base.exits import Exit
from kisscluster.see.daemon import Daemon

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


def lock_memory(call: Call) -> None:
    """A daemon that waits for a swapped page looks dead; where locking is not allowed, it says so and goes on.

    On fault: what it uses stays in memory, what it never uses is not read into it (mlockall(2)).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        call.talk(f"mlockall: {os.strerror(ctypes.get_errno())}")


def work(call: Call) -> int:
    config = load(call.config_file)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    key = read_secret(config.secret, f"{credentials}/secret" if credentials else None)
    if not call.doer.say(f"exec kc-heartbeat --config {call.config_file} --run-dir {call.run.root}"):
        return Exit.OK
    lock_memory(call)
    daemon = Daemon(config, key, call.run, call.state)
    os.set_blocking(2, False)
    daemon.forever()
    return Exit.OK


def main() -> int:
    return start("kc-heartbeat", "Say alive on both networks, listen and ping; publish what is heard.", work)
