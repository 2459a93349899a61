"""The only clock that permits anything: seconds since boot, suspend included, never stepped."""

import time


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds; the same clock that kc-heartbeat writes to `alive`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
