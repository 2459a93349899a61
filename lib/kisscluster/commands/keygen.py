"""kc-keygen: make the secret that the two nodes share."""

import os
import secrets
import shlex

from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure


def work(call: Call) -> int:
    file = f"{os.path.dirname(call.config_file) or '.'}/secret"
    if os.path.lexists(file):
        raise Failure(
            Exit.UNSAFE,
            f"{file}: there is one already, and a new one would cut the nodes off from each "
            f"other; to replace it on both: rm {shlex.quote(file)}",
        )
    if call.doer.say(f"umask 077 && head -c32 /dev/urandom | od -An -vtx1 | tr -d ' \\n' > {shlex.quote(file)}"):
        temporary = f"{file}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_hex(32).encode() + b"\n")
            os.fsync(fd)
            # a link fails where somebody else was faster; a rename would replace the other's key
            os.link(temporary, file)
        finally:
            os.close(fd)
            os.unlink(temporary)
    call.talk(f"now copy {file} to the other node, mode 0600")
    call.answer(secret=file)
    return Exit.OK


def main() -> int:
    return start("kc-keygen", "Make the secret that the two nodes share.", work)
