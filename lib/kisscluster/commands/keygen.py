"""kc-keygen: make the secret that the two nodes share."""

import os
import secrets
import shlex

from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure


def work(call: Call) -> int:
    file = call.config_file.parent / "secret"
    if file.exists():
        raise Failure(
            Exit.UNSAFE,
            f"{file}: there is one already, and a new one would cut the nodes off from each "
            f"other; to replace it on both: rm {shlex.quote(str(file))}",
        )
    if call.doer.say(f"umask 077 && head -c32 /dev/urandom | xxd -p -c64 > {shlex.quote(str(file))}"):
        temporary = file.with_name(f".secret.{os.getpid()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_hex(32).encode() + b"\n")
            os.fsync(fd)
            # a link fails where somebody else was faster; a rename would replace the other's key
            os.link(temporary, file)
        finally:
            os.close(fd)
            temporary.unlink()
    call.talk(f"now copy {file} to the other node, mode 0600")
    call.answer(secret=str(file))
    return Exit.OK


def main() -> int:
    return start("kc-keygen", "Make the secret that the two nodes share.", work)
