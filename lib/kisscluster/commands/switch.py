"""kc-standby and kc-maintenance: a human's word, on or off."""

import argparse
import time

from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit, Failure
from kisscluster.commands.common import PAUSE, place_of, say_word
from kisscluster.decide.human import Word
from kisscluster.see.files import Place, own_word, word


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", choices=("on", "off", "status"))
    parser.add_argument("-w", "--wait", action="store_true", help="wait until it has come about")


def missing(place: Place, name: str, on: bool) -> str:
    """What has not come about yet: no VM is left on a node in standby; the peer has heard of maintenance."""
    if name == "maintenance":
        heard = Word.parse(place.run.read("peer/local/maintenance")).yes == on
        return "" if heard else "the peer has not heard it"
    here = {vm for kind in ("running", "outgoing", "incoming") for vm in place.run.names(f"local/{kind}")}
    return f"still here: {', '.join(sorted(here))}; kc-status says why" if on and here else ""


def work(call: Call, name: str) -> int:
    """Exit 0: done, or (status) it is on; 1: (status) it is off; 124: (--wait) it has not come about."""
    place = place_of(call)
    asked, end = call.options.state, time.monotonic() + call.timeout
    said = own_word(place, name) if name == "standby" else word(place, name)
    if asked != "status" and said.yes != (asked == "on"):
        say_word(call, place, name, asked == "on")
        call.talk(f"undo it with: {call.program} {'off' if asked == 'on' else 'on'}")
    on = said.yes if asked == "status" else asked == "on"
    while call.options.wait and asked != "status" and not call.dry and (why := missing(place, name, on)):
        if time.monotonic() > end:
            raise Failure(Exit.TIMEOUT, why)
        time.sleep(PAUSE)
    call.answer(**{name: "on" if on else "off"})
    return Exit.OK if on or asked != "status" else Exit.NO


def standby() -> int:
    purpose = "This node gives its VMs away and takes none."
    return start("kc-standby", purpose, lambda call: work(call, "standby"), arguments, timeout=3600)


def maintenance() -> int:
    return start(
        "kc-maintenance", "Both nodes change nothing by themselves.", lambda call: work(call, "maintenance"), arguments
    )
