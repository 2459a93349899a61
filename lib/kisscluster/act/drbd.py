"""drbdadm, its exit codes as FACTS 1.2 has them."""

from kisscluster.base.run import Doer, Ended

REFUSED = 11  # state change refused: held open, the peer is primary, the fence handler said no
NOT_UP = 10  # unknown minor or connection, already so
NO_GOOD_COPY = 17  # needs access to UpToDate data


def primary(doer: Doer, name: str) -> Ended:
    return doer.do("drbdadm", "primary", name)


def secondary(doer: Doer, name: str) -> Ended:
    return doer.do("drbdadm", "secondary", name)


def adjust(doer: Doer, name: str, fire_again: bool) -> Ended:
    """Bring the resource to what its file says; `fire_again`: the kernel calls its fence handler once more."""
    if fire_again:
        doer.do("drbdadm", "disconnect", "--force", name)
    ended = doer.do("drbdadm", "adjust", name)
    if ended.status:  # a disk that failed is attached first, in vain, and nothing after that is tried
        connect(doer, name)
    return ended


def connect(doer: Doer, name: str) -> Ended:
    return doer.do("drbdadm", "connect", name)


def two_primaries(doer: Doer, name: str, allowed: bool) -> bool:
    """Allow both nodes to be primary, or no more; the kernel tells its peer. False while both are, or without a peer.

    What is not connected and not looking for the peer has no such option to switch off: it comes back without it.
    """
    ended = doer.do("drbdadm", "net-options", f"--allow-two-primaries={'yes' if allowed else 'no'}", name)
    return ended.status == 0


def outdate(doer: Doer, name: str) -> bool:
    """Write to our copy that it is stale; `outdate` does nothing while DRBD believes to be connected (FACTS 1.6 H2)."""
    doer.do("drbdadm", "disconnect", "--force", name)
    doer.do("drbdadm", "outdate", name)
    disks = doer.do("drbdadm", "dstate", name)
    done = disks.status == 0 and all(line.startswith("Outdated") for line in disks.stdout.split()) or doer.dry
    connect(doer, name)
    return done and (doer.dry or bool(disks.stdout.split()))


def part(doer: Doer, name: str) -> Ended:
    """Take leave of a peer that is primary: both kernels call our copy outdated, and no write of its guest waits."""
    return doer.do("drbdadm", "disconnect", name)


def went_on(doer: Doer, name: str) -> bool:
    """Did this copy take a write that the peer lacks? Then DRBD has kept the identifier before it, the second field of
    get-gi (FACTS 0); a resource that is down is asked by its meta-data. What cannot be told counts as yes.
    """
    told = doer.look("drbdadm", "get-gi", name)
    bitmaps = [line.split(":")[1:2] for line in told.stdout.split()]
    return bool(told.status) or not bitmaps or any(not field or field[0].strip("0") != "" for field in bitmaps)
