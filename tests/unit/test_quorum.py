"""Every line of DESIGN 3's table."""

import pytest

from kisscluster.decide.facts import Links
from kisscluster.decide.quorum import decide, what_if
from tests.unit.facts import DEAD, ISOLATED, SILENT, node


def supposed(text: str) -> str:
    return decide(what_if(dict(word.split("=") for word in text.split(",") if word))).word


@pytest.mark.parametrize(("facts", "word"), [
    ("", "home"),
    ("starting=yes", "hold"),
    ("starting=yes,maintenance=yes", "hold"),
    ("maintenance=yes", "hold"),
    ("storage=down,production=down,ping=down", "hold"),
    ("storage=down,production=down,trace=down,ping=down", "hold"),
    ("storage=down,production=down,trace=down,ping=down,proven=yes", "hold"),
    ("storage=down,production=down", "home"),
    ("storage=down,production=down,trace=down,fence=yes", "hold"),
    ("storage=down,production=down,trace=down,fence=yes,proven=yes", "all"),
    ("storage=down,production=down,trace=down", "all"),
    ("storage=down,production=down,proven=yes", "all"),
    ("peer.fit=no", "all"),
    ("peer.fit=no,steady=no", "home"),
    ("peer.fit=no,standby=yes", "home"),
    ("peer.fit=no,production=down,ping=down", "home"),
    ("standby=yes", "none"),
    ("leaving=yes", "none"),
    ("production=down,ping=down", "none"),
    ("production=down", "home"),
    ("ping=down", "home"),
    ("storage=down", "home"),
    ("storage=down,ping=down", "home"),
    ("storage=down,standby=yes", "none"),
])
def test_table(facts: str, word: str) -> None:
    assert supposed(facts) == word


def test_unfit_peer_must_be_so_for_a_while() -> None:
    assert decide(node(peer={"fit": False}, peer_unfit_long=False)).word == "home"


def test_own_lan_gone_waits_but_standby_does_not() -> None:
    gone = Links(production=False, ping=False)
    assert decide(node(gone, me_unfit_long=False)).word == "home"
    assert decide(node(gone, peer={"steady": False})).word == "home"
    assert decide(node(me={"standby": True}, me_unfit_long=False, peer={"steady": False})).word == "none"


@pytest.mark.parametrize("asked", [{"standby": True}, {"leaving": True}])
def test_what_the_peer_asks_for_waits_for_nothing(asked: dict[str, bool]) -> None:
    """That a LAN is gone may be a moment's view; that a person said so is not."""
    assert decide(node(peer={"fit": False, **asked}, peer_unfit_long=False)).word == "all"
    assert decide(node(peer={"fit": True, **asked}, peer_unfit_long=False)).word == "home"
    assert decide(node(Links(steady=False), peer={"fit": False, **asked})).word == "home"


def test_unfit_and_not_told_yet() -> None:
    """It boots without a LAN; what the peer will say decides, and a guest started now would have to move at once."""
    gone, silent = Links(production=False, ping=False), {"fit": False, "told": False}
    assert decide(node(gone, peer=silent)).word == "hold"
    assert decide(node(gone, peer={"fit": False})).word == "home"              # nothing is gained by moving
    assert decide(node(gone)).word == "none"
    assert decide(node(peer=silent, peer_unfit_long=False)).word == "home"
    assert decide(node(me={"standby": True}, peer=silent)).word == "hold"


def test_alarm_and_fence() -> None:
    assert decide(node(SILENT)).alarm
    assert decide(node(DEAD, fence=True)).fence
    assert not decide(node(ISOLATED, fence=True)).fence
    assert not decide(node(ISOLATED)).quorum
    assert decide(node(stale="no heartbeat")).stale


@pytest.mark.parametrize(("words", "named"), [({"ping": "yes"}, "ping=up"), ({"standby": "up"}, "standby=yes"),
                                              ({"colour": "yes"}, "colour")])
def test_what_if_names_the_mistake(words: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        what_if(words)


def test_links_line_is_all_or_nothing() -> None:
    assert Links.parse(str(DEAD)) == DEAD
    assert Links.parse("storage=up production=up ping=up trace=up unbroken=yes steady=yes") == Links()
    assert Links.parse("storage=up production=up ping=up trace=up unbroken=yes") is None
    assert Links.parse("storage=maybe production=up ping=up trace=up unbroken=yes steady=yes") is None
    assert Links.parse("") is None
