"""systemctl: jobs are queued, never waited for, unless a person waits."""

from kisscluster.base.run import Doer, Ended


def unit(kind: str, name: str) -> str:
    return f"kc-{kind}@{name}.service"


def enqueue(doer: Doer, verb: str, units: list[str]) -> Ended:
    """Queue one job for each unit; a later request for a unit replaces an earlier one."""
    return doer.do("systemctl", "--no-block", verb, *units) if units else Ended(0, "", "")


def wait_for(doer: Doer, verb: str, name: str, timeout: float | None = None) -> Ended:
    """Start or stop one unit and wait for the end of its job, for so many seconds."""
    return doer.do("systemctl", verb, name, timeout=timeout)
