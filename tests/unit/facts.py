"""Facts for tests: a healthy pair, and what differs from it."""

from __future__ import annotations

from typing import Any

from kisscluster.decide.facts import Copy, Links, NodeFacts, Side, VmFacts
from kisscluster.decide.words import Drbd

EVEN = "Connected Secondary/Secondary UpToDate/UpToDate r"
PRIMARY = "Connected Primary/Secondary UpToDate/UpToDate r"
PEER_PRIMARY = "Connected Secondary/Primary UpToDate/UpToDate r"
APART = "WFConnection Secondary/Unknown UpToDate/DUnknown r"
FROZEN = "WFConnection Primary/Unknown UpToDate/DUnknown s"
ALONE = "WFConnection Primary/Unknown UpToDate/Outdated r"
CONSISTENT = "WFConnection Secondary/Unknown Consistent/DUnknown r"
OUTDATED = "WFConnection Secondary/Unknown Outdated/DUnknown r"

SILENT = Links(storage=False, production=False)
DEAD = Links(storage=False, production=False, trace=False)
ISOLATED = Links(storage=False, production=False, trace=False, ping=False)


def node(links: Links | None = None, **changes: Any) -> NodeFacts:
    peer = Side(**changes.pop("peer", {}))
    me = Side(**changes.pop("me", {}))
    return NodeFacts(links=links or Links(), me=me, peer=peer)._replace(**changes)


def copy(line: str | None = None, **marks: Any) -> Copy:
    return Copy(drbd=Drbd.parse(line), **marks)


def vm(line: str | None = EVEN, peer: Copy | None = None, at_home: bool = True, **changes: Any) -> VmFacts:
    marks = {name: changes.pop(name) for name in Copy._fields if name != "drbd" and name in changes}
    return VmFacts("web1", at_home, copy(line, **marks), peer or Copy(), **changes)
