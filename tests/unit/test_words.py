"""What the kernel says, what people said."""

import pytest

from kisscluster.decide.human import Word
from kisscluster.decide.words import Drbd
from kisscluster.see.kernel import parse

PROC = """\
version: 8.4.11 (api:1/proto:86-101)
srcversion: 637677C4EAFCF5D1D5446B0
 0: cs:Unconfigured
10: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
    ns:0 nr:0 dw:0 dr:0 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
11: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   s----F
12: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----
\t[==>...] sync'ed: 12.3% (100/200)K
1000: cs:NewWord ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
"""


def test_proc_drbd() -> None:
    found = parse(PROC)
    assert {minor: str(word) for minor, word in found.items()} == {
        10: "Connected Primary/Secondary UpToDate/UpToDate r",
        11: "StandAlone Primary/Unknown UpToDate/DUnknown s",
        12: "SyncTarget Secondary/Primary Inconsistent/UpToDate r"}
    assert found[12].connected and not found[11].connected and found[10].even and not found[12].even


@pytest.mark.parametrize("line", ["", None, "Connected", "Connected Primary/Secondary UpToDate/UpToDate",
                                  "Connected King/Secondary UpToDate/UpToDate r",
                                  "Connected Primary/Secondary UpToDate/UpToDate r extra"])
def test_not_drbds_words(line: str | None) -> None:
    assert Drbd.parse(line) is None


def test_worst_of_several_volumes() -> None:
    lines = ["Connected Primary/Secondary UpToDate/UpToDate r", "SyncSource Primary/Secondary UpToDate/Inconsistent r"]
    assert str(Drbd.worst([Drbd.parse(line) for line in lines])) == lines[1]  # type: ignore[misc]
    lines[1] = "WFConnection Secondary/Unknown Consistent/DUnknown s"
    assert str(Drbd.worst([Drbd.parse(line) for line in lines])) == (  # type: ignore[misc]
        "WFConnection Primary/Secondary Consistent/DUnknown s")


@pytest.mark.parametrize(("line", "yes"), [
    ("WFConnection Primary/Unknown UpToDate/Inconsistent r", True),           # the kernel asked nobody
    ("StandAlone Primary/Unknown UpToDate/DUnknown r", True),
    ("WFConnection Primary/Unknown UpToDate/DUnknown s", False),              # nothing is written
    ("WFConnection Secondary/Unknown UpToDate/DUnknown r", False),
    ("Connected Primary/Secondary UpToDate/UpToDate r", False),
    ("Connected Primary/Secondary UpToDate/Diskless r", True),
    ("Connected Secondary/Primary UpToDate/Diskless r", True),                # the peer's guest, over the network
    ("Connected Secondary/Primary UpToDate/Failed r", True),
    ("Connected Secondary/Secondary UpToDate/Diskless r", False),             # nobody writes
    ("Connected Primary/Secondary Diskless/UpToDate r", False),
    ("Connected Primary/Secondary Diskless/Diskless r", False),
    ("SyncSource Primary/Secondary UpToDate/Inconsistent r", False),          # the kernel knows that one
])
def test_only_copy(line: str, yes: bool) -> None:
    word = Drbd.parse(line)
    assert word is not None and word.only_copy is yes


def test_newest_human_word_wins() -> None:
    assert max(Word.parse("yes 7"), Word.parse("no 8"), Word.parse(None)) == Word(8, False)
    assert max(Word.parse("no 7"), Word.parse("yes 7")) == Word(7, True)
    assert Word.parse("") == Word.parse("on") == Word(0, True)
    assert Word.parse("maybe 9") == Word()
    assert Word.parse(str(Word(7, True))) == Word(7, True)
