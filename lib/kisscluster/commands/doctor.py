"""kc-doctor: is this node set up right? Each finding with the command that mends it."""

import json

from kisscluster.base.cli import Call, start
from kisscluster.base.config import load_vms
from kisscluster.base.exits import Exit
from kisscluster.commands.common import place_of
from kisscluster.commands.status import show_problems, too_small
from kisscluster.decide import setup
from kisscluster.decide.wrong import Wrong
from kisscluster.see.files import node_facts
from kisscluster.see.setup import read


def work(call: Call) -> int:
    place = place_of(call)
    vms, mistakes = load_vms(place.config)
    facts = read(place, vms, node_facts(place), call.doer)
    found = [Wrong("configuration", line) for line in mistakes]
    found += [*setup.findings(place.config, vms, facts), *too_small(place, vms)]
    unknown = setup.unknown(facts)
    if call.options.json:
        print(json.dumps({"findings": [item._asdict() for item in found], "unknown": unknown}))
    elif not call.options.quiet:
        show_problems([item._asdict() for item in found])
        print("".join(f"? {place.config.me.name}: not known: {name}\n" for name in unknown), end="")
    return Exit.NO if found else Exit.CANNOT_TELL if unknown else Exit.OK


def main() -> int:
    return start("kc-doctor", "Say what is not set up right, and how to mend it; exit 0 when all is.", work, timeout=10)
