"""kc-status: everything at a glance; exit 0 when all is as it should be."""

import json
import os
import sys
from typing import Any

from kisscluster.base.cli import Call, start
from kisscluster.base.config import Vm, load_vms
from kisscluster.base.exits import Exit
from kisscluster.commands.common import place_of
from kisscluster.decide import order, wrong
from kisscluster.decide.facts import NodeFacts, VmFacts
from kisscluster.decide.quorum import Decision, decide
from kisscluster.decide.wrong import Wrong
from kisscluster.see.files import Place, node_facts, vm_facts, word
from kisscluster.see.room import guest, room

Facts = dict[str, Any]


def runs_on(place: Place, node: NodeFacts, vm: VmFacts) -> str:
    names = {"here": place.config.me.name, "peer": place.config.peer.name, "both": "both", "nowhere": "-"}
    return names[wrong.where(node, vm)]


def vm_row(place: Place, node: NodeFacts, conf: Vm, vm: VmFacts, wrongs: list[Wrong]) -> Facts:
    drbd = vm.me.drbd
    return {
        "name": vm.name,
        "home": conf.node,
        "runs_on": runs_on(place, node, vm),
        "stopped": vm.stopped,
        "connection": drbd.connection if drbd else "-",
        "role": f"{drbd.role}/{drbd.peer_role}" if drbd else "-",
        "disks": f"{drbd.disk}/{drbd.peer_disk}" if drbd else "-",
        "frozen": vm.frozen,
        "moving": vm.me.outgoing and place.run.read(f"migration/{vm.name}") or "is moved" * vm.moving,
        "ahead": vm.me.ahead,
        "wrong": [item.text for item in wrongs],
    }


def gather(call: Call, place: Place) -> Facts:
    """All that there is to say, in one object."""
    vms, mistakes = load_vms(place.config)
    node = node_facts(place)
    decision = decide(node)
    wrongs = wrong.pair(node, decision) + [Wrong("configuration", line) for line in mistakes]
    rows = []
    for conf in vms:
        facts = vm_facts(place, conf.name, conf.node)
        found = wrong.machine(node, facts, place.run.read(f"pending/{conf.name}") or "")
        rows.append(vm_row(place, node, conf, facts, found))
        wrongs += found
    return {
        "cluster": place.config.cluster,
        "node": place.config.me.name,
        "peer": place.config.peer.name,
        "healthy": not wrongs,
        "decision": decision.word,
        "reason": decision.reason,
        "links": links(node, decision),
        "votes": votes(node),
        "peer_alive": node.alive,
        "peer_dead": node.dead,
        "vms": rows,
        "problems": [item._asdict() for item in wrongs + too_small(place, vms)],
    }


def too_small(place: Place, vms: list[Vm]) -> list[Wrong]:
    """A standing fact of the configuration: told, but nothing that has gone wrong."""
    guests = [guest(place, vm, False) for vm in vms if not word(place, f"stopped/{vm.name}").yes]
    return [Wrong("pair", text) for text in [order.too_small(guests, room(place))] if text]


def links(node: NodeFacts, decision: Decision) -> Facts:
    if decision.stale:
        return {}
    return {name: "up" if getattr(node.links, name) else "down" for name in ("storage", "production", "ping", "trace")}


def votes(node: NodeFacts) -> int:
    """Of three: this node, the peer, the switch; 0 while this node does not know."""
    return 0 if node.stale else 1 + node.alive + node.links.ping


def paint(text: str, colour: int) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("NO_COLOR")
    return text if plain else f"\x1b[{colour}m{text}\x1b[0m"


def show(facts: Facts) -> None:
    """One screen for a person."""
    peer = "alive" if facts["peer_alive"] else "dead" if facts["peer_dead"] else "silent"
    dot = paint("●", 32) if facts["healthy"] else paint("×", 31)
    print(f"{dot} {facts['cluster']}: this is {facts['node']}, its peer {facts['peer']} is {peer}")
    print(f"  decision  {facts['decision']}: {facts['reason']}")
    ways = " ".join(f"{name}={value}" for name, value in facts["links"].items())
    print(f"  links     {ways or 'not known'}; {facts['votes']} of 3 votes")
    columns = ("name", "home", "runs_on", "connection", "role", "disks")
    table = [("VM", "HOME", "RUNS ON", "DRBD", "ROLE", "DISKS", "")]
    table += [tuple(row[key] for key in columns) + (_remark(row),) for row in facts["vms"]]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=False)]
        print("  ".join(["", *cells, line[-1]]).rstrip())
    show_problems(facts["problems"])


def show_problems(items: list[Facts]) -> None:
    for item in items:
        print(f"{paint('!', 31)} {item['about']}: {item['text']}")
        if item["command"]:
            print(f"    {item['command']}")


def _remark(row: Facts) -> str:
    if row["stopped"]:
        return "stopped by a person"
    if row["frozen"]:
        return "writes frozen"
    if row["moving"]:
        return str(row["moving"])
    return "away from home" if row["runs_on"] not in ("-", row["home"]) else ""


def work(call: Call) -> int:
    facts = gather(call, place_of(call))
    if call.options.json:
        print(json.dumps(facts))
    elif not call.options.quiet:
        show(facts)
    return Exit.OK if facts["healthy"] else Exit.NO


def main() -> int:
    return start("kc-status", "Show the pair and its VMs; exit 0 when all is as it should be.", work)
