"""Each rule that DESIGN marks (*), taken out; and bugs planted by hand. Every one must be found.

    python3 -m tests.scenario.mutants.find NAME     search until it is found, and keep the shortest scenario
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
FOUND = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """A change of the sources: in each file one text, which stands there exactly once, is replaced."""

    name: str
    what: str
    edits: tuple[tuple[str, str, str], ...]

    def plant(self, target: Path) -> None:
        """A copy of lib/ with this bug in it; raises ValueError where the source has moved on."""
        shutil.copytree(ROOT / "lib", target / "lib", ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in self.edits:
            path = target / "lib/kisscluster" / file
            text = path.read_text()
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {file}: {old!r} stands there {text.count(old)} times, expected once")
            path.write_text(text.replace(old, new))


GIVE_UP = "    return vm.me.level and node.alive and node.peer.fit and not node.conflict\n"
WHERE = "    return mine if mine != peers else vm.at_home\n"

MUTANTS = [
    Mutant("01-links-read-in-two-looks", "first who speaks is read, then whether the switch answers", ((
        "see/files.py", '    links = Links.parse(run.read("links") or "")\n',
        '    first, links = Links.parse(run.read("links") or ""), Links.parse(run.read("links") or "")\n'
        "    if first is not None and links is not None:\n"
        "        links = first._replace(ping=links.ping)\n"),)),
    Mutant("02-pings-from-before-the-silence", "a ping sent before the silence counts (and no ping of the peer is a trace)", (
        ("see/heart.py", "        return fresh and (self.silent_since is None or len(self.confirmed) >= 2)\n",
         "        return fresh\n"),
        ("see/heart.py", "        return self.machine.within(now, self.times.deadtime) or self.drbd_connected\n",
         "        return self.drbd_connected\n"))),
    Mutant("03-no-quorum-stops-guests", "without quorum guests are stopped", (
        ("decide/quorum.py", 'return Decision(HOLD, "no quorum', 'return Decision(NONE, "no quorum'),
        ("decide/rules.py", GIVE_UP, "    return not node.alive or vm.me.drbd is not None and vm.me.drbd.even and node.peer.fit\n"))),
    Mutant("04-unfit-at-once", "unfit for a moment is enough", (
        ("see/files.py", 'me_unfit_long=_since(place, "local/fit", "no") >= unfit_long', "me_unfit_long=True"),
        ("see/files.py", 'peer_unfit_long=_since(place, "peer/local/fit", "no") >= unfit_long', "peer_unfit_long=True"))),
    Mutant("05-always-at-home", "a guest belongs home, whoever has the newest data", ((
        "decide/rules.py", WHERE, "    return vm.at_home\n"),)),
    Mutant("06-give-up-what-the-peer-cannot-take", "a guest is given up whatever its copies are", ((
        "decide/rules.py", GIVE_UP, "    return node.alive\n"),)),
    Mutant("07-even-by-one-word", "our own word is enough for even", (
        ("decide/marks.py", "not me.ahead and me.level and peer.level\n", "not me.ahead and me.level\n"),
        ("decide/marks.py", "last.ahead or me.yields or me.drbd is None or spoils(me.drbd) or spoils(last.drbd):",
         "me.yields or me.drbd is None or spoils(me.drbd):"))),
    Mutant("08-even-while-one-is-ahead", "even is set while one is still ahead", (
        ("decide/marks.py", "    if last.ahead or me.yields", "    if me.yields"),
        ("decide/marks.py", "before or not me.ahead and me.level", "before or me.level"))),
    Mutant("09-doubt-after-a-whole-deadtime", "the doubt begins as late as a takeover", (
        ("see/heart.py", "        if now - heard > self.times.deadtime / 2:\n            self.unbroken = False\n",
         "        if now - heard > self.times.deadtime * 2:\n            self.unbroken = False\n"),)),
    Mutant("10-ahead-is-written-afterwards", "the mark ahead comes after the first write", ((
        "commands/common.py", '    fresh = call.write(place.state, f"ahead/{vm.name}", "", durable=True)\n', "    return True\n"),)),
    Mutant("11-ahead-stays-on-half-a-copy", "the mark ahead stays on a copy that is being overwritten", ((
        "decide/plan.py", '    if vm.me.ahead and mine is not None and mine.disk == "Inconsistent":\n', "    if False:\n"),)),
    Mutant("12-claim-against-a-primary", "who hears primary or ahead claims all the same", (
        ("decide/promote.py", '    if vm.peer_primary and node.alive:\n        return Verdict(REFUSE, "not connected, and the peer'
         ' says that it is primary")\n', ""),
        ("decide/plan.py", "node.alive and (vm.peer_primary or vm.peer.off):", "node.alive and vm.peer.off:"))),
    Mutant("13-give-the-word-without-a-second-look", "the word is given without a look at ahead", (
        ("see/beat.py", 'if name.startswith("yields/") and self.state.has(f"ahead/{vm}"):', "if False:"),
        ("commands/common.py", "going = may_go_alone(node, grounds) and not facts.me.yields and not (fresh and overtaken(node, grounds))",
         "going = True"))),
    Mutant("14-the-last-heard-word-wins", "of two words the peer's wins, whatever their counters", ((
        "see/files.py", "    return max(Word.parse(line) for line in sources)\n",
        "    return [Word.parse(line) for line in sources if line is not None or line is sources[0]][-1]\n"),)),
    Mutant("15-old-words-permit", "a word from before the event counts", ((
        "see/heart.py", "                self.since[vm] = self.seq + 1\n", "                self.since[vm] = 0\n"),)),
    Mutant("16-promotion-waits-in-the-kernel", "drbdadm primary is called and its handler waits", (
        ("decide/promote.py", "    return Verdict(CLAIM, f\"not connected{_why_not(node, vm)}\")\n",
         "    return Verdict(GO, f\"not connected{_why_not(node, vm)}\")\n"),
        ("decide/fence.py", "    return REFUSED if promoting else WAIT\n", "    return WAIT\n"))),
    Mutant("17-the-newest-copy-is-outdated", "kc-outdate asks for nothing but a primary peer", (
        ("commands/outdate.py", "            if facts.me.ahead\n", "            if False\n"),
        ("decide/plan.py", "    if vm.me.yields and gone_on and not vm.me.ahead and not vm.primary and", "    if gone_on and not vm.primary and"),
        ("commands/outdate.py", "            if not facts.me.yields\n", "            if False\n"))),
    Mutant("18-the-handler-is-never-fired-again", "a lost answer of the handler is never asked for again", ((
        "decide/plan.py", "if vm.deaf and vm.drbd_age >= patience:", "if vm.deaf and vm.drbd_age >= 1e9:"),)),
    Mutant("19-who-is-ahead-asks-nobody", "a node that is ahead starts without a new word of its living peer", ((
        "decide/promote.py", "    if heard and may_go_alone(node, vm):\n", "    if may_go_alone(node, vm):\n"),)),
    Mutant("20-a-word-for-a-broken-disk", "a node yields to a primary whose disk has failed, and is not ahead of it", (
        ("decide/marks.py", '    good = peer.drbd is None or peer.drbd.disk in ("UpToDate", "Consistent")\n', "    good = True\n"),
        ("decide/words.py", 'return self.running_alone or failed and "Primary" in (self.role, self.peer_role)',
         "return self.running_alone"))),
    Mutant("21-the-survivor-stops-its-guest", "of two that run it the one away from home stops, whoever is ahead", ((
        "decide/plan.py", "    newest = vm.me.ahead and not vm.peer.ahead", "    newest = False"),)),
    Mutant("22-in-step", "both promote, refuse each other, and wait for as long", ((
        "commands/promote.py", "AWAY = 0.7 ", "AWAY = PAUSE "),)),
    Mutant("23-unfit-and-not-told", "a peer that has said nothing counts as unfit", ((
        "decide/quorum.py", "    if not facts.fit and not facts.peer.told:\n", "    if False:\n"),)),
    Mutant("24-marks-by-an-old-look", "marks and outdating believe the heartbeat's last look", (
        ("commands/failover.py", "        if word is not None and word.only_copy:  # it", "        if True:  # it"),
        ("commands/failover.py", "            level(call, place, action.vm)  # the disk", "            # the disk"),
        ("commands/failover.py", '        if word is not None and (word.even or word.disk == "Inconsistent"):\n', "        if True:\n"),
        ("commands/outdate.py", "node.stale if mine == facts.me.drbd", "node.stale if True"))),
    Mutant("25-good-beside-a-failed-disk", "a copy that is good only beside a failed disk is promoted", ((
        "decide/rules.py", "    drbd = vm.me.drbd\n    if drbd is None or not drbd.connected:\n        return False\n    unknown",
        "    drbd = vm.me.drbd\n    if True:\n        return False\n    unknown"),)),
    Mutant("26-fit-by-hearsay", "a node that cannot know goes on saying that it is fit", ((
        "see/daemon.py", "        fit = self.heart.lan_since is not None and self.beat.published\n", "        fit = True\n"),)),
    Mutant("27-about-to-go-on-is-not-even", "the mark of who is about to go on takes its own permission away", ((
        "decide/marks.py", "    if last.ahead or me.yields", "    if me.ahead or last.ahead or me.yields"),)),
    Mutant("30-outdate-without-disconnecting", "outdate without disconnecting first, its exit status believed", (
        ("act/drbd.py", '    doer.do("drbdadm", "disconnect", "--force", name)\n    doer.do("drbdadm", "outdate", name)\n',
         '    return doer.do("drbdadm", "outdate", name).status == 0\n'),)),
    Mutant("31-seven-for-a-consistent-copy", "a copy that is only Consistent is promoted by a death", (
        ("decide/fence.py", "    return STONITHED if node.proven and not consistent else UNREACHABLE\n", "    return STONITHED\n"),
        ("decide/rules.py", "    return node.dead and node.links.unbroken and vm.me.even and not vm.me.yields\n",
         "    return node.dead and not vm.me.yields\n"))),
    Mutant("32-a-deaf-guest-is-never-stopped", "a guest that ignores the power button is pressed for ever", ((
        "commands/vm_stop.py", "    while time.monotonic() < end:\n        tell(call", "    while True:\n        end = time.monotonic() + 60\n        tell(call"),)),
    Mutant("33-a-wake-up-is-lost", "the flag is taken away after the facts are read", (
        ("commands/failover.py", '        call.remove(call.run, "wake/failover")\n', ""),
        ("commands/failover.py", "        ended = [enqueue", '        call.remove(call.run, "wake/failover")\n        ended = [enqueue'))),
    Mutant("35-shut-down-instead-of-moved", "a guest that must go is shut down, though it could go live", ((
        "decide/migrate.py", '        return "" if refusal(node, vm) else LIVE\n',
        '        return "" if refusal(node, vm) else RESTART if must else LIVE\n'),)),
    Mutant("36-the-second-look-does-not-wait", "who is about to go on does not wait until its peer has answered that", ((
        "commands/common.py", "ANSWERED = 3.0 ", "ANSWERED = 0.0 "),)),
    Mutant("34-home-before-the-resync-ended", "a guest goes where its copy is still being resynced", (
        ("decide/rules.py", WHERE, "    return vm.at_home\n"),
        ("decide/rules.py", GIVE_UP, "    return vm.me.drbd is not None and vm.me.drbd.connected and node.alive and node.peer.fit\n"))),
]
