"""kc-standby and kc-maintenance: a human's word, on or off."""

import argparse

from kisscluster.base.cli import Call, start
from kisscluster.base.exits import Exit
from kisscluster.commands.common import place_of, say_word
from kisscluster.see.files import own_word, word


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", choices=("on", "off", "status"))


def work(call: Call, name: str) -> int:
    """Exit 0: done, or (status) it is on; 1: (status) it is off."""
    place = place_of(call)
    asked = call.options.state
    said = own_word(place, name) if name == "standby" else word(place, name)
    if asked != "status" and said.yes != (asked == "on"):
        say_word(call, place, name, asked == "on")
        call.talk(f"undo it with: {call.program} {'off' if asked == 'on' else 'on'}")
    on = said.yes if asked == "status" else asked == "on"
    call.answer(**{name: "on" if on else "off"})
    return Exit.OK if on or asked != "status" else Exit.NO


def standby() -> int:
    return start(
        "kc-standby", "This node gives its VMs away and takes none.", lambda call: work(call, "standby"), arguments
    )


def maintenance() -> int:
    return start(
        "kc-maintenance", "Both nodes change nothing by themselves.", lambda call: work(call, "maintenance"), arguments
    )
