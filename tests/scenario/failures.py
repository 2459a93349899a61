"""docs/failures.md, made from the scenario files: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.scenario.language import PAUSE, WORLDS, Mistake, Scenario, load_all

FILE = Path(__file__).parents[2] / "docs/failures.md"
UNNOTICED = 0.5  # seconds: a guest writes every quarter of a second
SECTIONS = {
    "Power": "A node without power, switched off, rebooted or in a panic.",
    "Production network": "The LAN of the guests: cables, interfaces, and the switch's ports.",
    "Storage cable": "The direct cable between the nodes, which carries the mirror of the disks.",
    "Switch and ping address": "The third voter. Guests are not moved because of it: nobody else has a better LAN.",
    "Isolation": "A node cut off from everything writes nothing, and resets itself when the other went on.",
    "Hang": "A node that stands still as a whole, and wakes up again or not.",
    "Disks": "Errors of the disk below a guest's mirror.",
    "Guests": "A guest's own QEMU dies, hangs or is killed.",
    "Migration": "A guest moves while it runs, and something breaks meanwhile.",
    "Our own programs": "Parts of KISScluster are killed or stand still. No guest depends on them to run.",
    "Clocks and full disks": "What fills up or jumps on a node.",
    "Troubled packets": "Networks that are slow, or deliver packets twice or in another order.",
    "Double faults": "A second fault before the first is mended.",
    "Not survived without fencing": """\
**This is the one thing that the pair does not survive as it stands.** Both paths between the nodes fail (the storage
cable, and the LAN between the two nodes), while each node still reaches the switch. Each of them then sees what it
would see if the other had lost its power, and no software can tell the two apart: both run all guests, and both copies
of the disks are written to. Clients may reach either of them.

When the nodes meet again this is noticed, and nothing is overwritten: the copies stay apart, the guests at home run on,
and kc-status prints for each guest the commands that throw one of the two copies away. What was written to that one
since the split is lost. Which one it is, a person decides.

What helps before: the lost LAN path alone is an alarm already, and mending it takes the danger away. What rules it out:
a `fence` command for each node (kisscluster.conf(5)), which switches the other node's power off: the next section.""",
    "With a fence command": "A node takes over only after it has switched the other off: one writer, whatever fails.",
    "Administration": "What people do, also while something is broken.",
}
INTRODUCTION = """\
# What fails, and what happens then

Made by `make docs` from [tests/scenarios](../tests/scenarios); every row is a test that `make check` runs. Do not edit.

- **Longest pause**: the longest time in which a guest got no answer to a write, over the whole scenario: frozen, being
  moved, or down. "none" is less than half a second. "silent at the end": it was stopped, or still waits for something,
  when the scenario ends. web1 is at home on node1, web2 on node2; without a name it is the same for both.
- The figures come from the simulator at native speed: programs take as long as on an idle machine, a node boots in
  five seconds, a guest in less than one, and a resync lasts one second; `deadtime` is 3 s, and `settle` 3 s instead of
  its default 30. Add your own guest's boot. Where a person or a cable is waited for, that is in the figure, too.
  [testing.md](testing.md) names what is measured on the real programs.
- **You**: what you see, and what you do. kc-status prints the commands where some are needed.
- **A human decides** marks what is safe but does not heal by itself; **not survived** means what it says.
- **Scenario**: the file, with every step and the whole timeline. *s*, *c*, *v*: it runs in the simulator, on a pair of
  containers, on a pair of virtual machines.
"""
HEAD = "| what fails | what happens | longest pause | you | scenario |\n|---|---|---|---|---|"
MARKS = {"yes": "", "no": " **Not survived.**", "a human decides": " **A human decides.**"}


def document(scenarios: list[Scenario]) -> str:
    """The whole file; raises Mistake for a group that has no place in it."""
    for scenario in scenarios:
        if scenario.header["group"] not in SECTIONS:
            raise Mistake(f"{scenario.name}.scenario: group: expected one of {', '.join(SECTIONS)}")
    return "\n".join([INTRODUCTION, contents(), *(section(group, scenarios) for group in SECTIONS)])


def contents() -> str:
    """The sections, with the addresses that forges give to headings."""
    return "".join(f"- [{group}](#{group.lower().replace(' ', '-')})\n" for group in SECTIONS)


def section(group: str, scenarios: list[Scenario]) -> str:
    """A heading, what it is about, and its table, simple stories first."""
    own = [scenario for scenario in scenarios if scenario.header["group"] == group]
    own.sort(key=lambda scenario: (sum(step.changes for step in scenario.steps), scenario.name))
    return "\n".join([f"## {group}\n", f"{SECTIONS[group]}\n", HEAD, *map(row, own), ""])


def row(scenario: Scenario) -> str:
    """One line of a table."""
    header = scenario.header
    where = " ".join(f"*{world[0]}*" for world in WORLDS if world in scenario.worlds)
    link = f"[{scenario.name}](../tests/scenarios/{scenario.name}.scenario) {where}"
    told = f"{sentence(header['happens'])}{MARKS[header['survived']]}"
    cells = [sentence(header["title"]), told, pause(scenario), sentence(header["admin"])]
    return f"| {' | '.join([*(cell.replace('|', chr(92) + '|') for cell in cells), link])} |"


def sentence(text: str) -> str:
    """As prose: with a capital and a full stop, commands as they are."""
    return f"{text if text.startswith('kc-') else text[0].upper() + text[1:]}."


def pause(scenario: Scenario) -> str:
    """The last line of its timeline, shortened."""
    last = (scenario.timeline.splitlines() or [""])[-1]
    found = dict(re.findall(r"(web\d) ([^,]+)", last.partition(PAUSE)[2]))
    if not found:
        return "not measured"
    told = {vm: "none" if float(text.split()[0]) < UNNOTICED else text for vm, text in found.items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "<br>".join(f"{vm} {text}" for vm, text in told.items())


def main() -> int:
    """Write it."""
    FILE.write_text(document(load_all()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
