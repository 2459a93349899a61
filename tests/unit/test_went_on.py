"""Whether a copy went on without its peer, by what `drbdadm get-gi` prints (FACTS 0)."""

from __future__ import annotations

import pytest

from kisscluster.act.drbd import went_on
from kisscluster.base.run import Doer, Ended

NEVER = "5A1C7F0000000001:0000000000000000:AB00000000000001:0000000000000000:1:1:0:0:0:0\n"
WROTE = "5A1C7F0000000003:5A1C7F0000000001:AB00000000000001:0000000000000000:1:1:0:0:0:1\n"


class Told(Doer):
    def __init__(self, ended: Ended) -> None:
        super().__init__(False, False, 1)
        self.ended = ended

    def look(self, *argv: str) -> Ended:
        assert argv == ("drbdadm", "get-gi", "web1")
        return self.ended


@pytest.mark.parametrize(("status", "text", "expected"), [
    (0, NEVER, False),
    (0, WROTE, True),
    (0, NEVER + WROTE, True),  # one volume is enough
    (0, NEVER + NEVER, False),
    (0, "", True),
    (0, "no meta data found\n", True),
    (20, NEVER, True),
    (124, "", True),
])
def test_what_cannot_be_told_counts_as_gone_on(status: int, text: str, expected: bool) -> None:
    assert went_on(Told(Ended(status, text, "")), "web1") is expected
