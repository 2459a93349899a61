"""Reset this node, at once: anything gentler waits minutes for a process that sleeps on a frozen disk (FACTS 2.4)."""

import os

from kisscluster.base.run import Doer

JOURNAL = 2.0  # seconds that the journal gets to keep the reason


def reset(doer: Doer) -> None:
    """sysrq-b, else reboot(2) by systemctl; returns only in a dry run or where neither works."""
    trigger = os.environ.get("KC_SYSRQ", "/proc/sysrq-trigger")
    doer.do("journalctl", "--sync", timeout=JOURNAL)
    if not doer.say(f"printf b > {trigger}"):
        return
    try:
        with open(trigger, "w") as stream:
            stream.write("b")
    except OSError:
        doer.do("systemctl", "reboot", "--force", "--force")
