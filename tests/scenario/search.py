"""Look for a run that breaks a promise: at random, seeded, shrunk to a scenario file.

    python3 -m tests.scenario.search --seconds 600
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import cast

from tests.scenario.sim import moves
from tests.scenario.sim.forks import apart
from tests.scenario.sim.trial import Found, attempt, bases, struck, watched
from tests.scenario.sim.windows import Kind, choose, strike

BASES = 6
WATCHED = 0.5  # of the random runs
Steps = list[tuple[float, str]]


class Searcher:
    """The healthy pairs of one process; of what the scenario files do, its share."""

    def __init__(self, share: slice, rng: random.Random) -> None:
        self.worlds = bases(BASES)
        self.known = moves.corpus()[share]
        rng.shuffle(self.known)
        self.rng = rng
        self.tried = Counter[Kind]()
        self.runs = 0

    def attempt(self, steps: list[moves.Draw], seed: int, lag: float, base: int) -> Found | None:
        self.runs += 1
        found: Found | None = apart(lambda: attempt(self.worlds[base], steps, seed, lag, base))
        return found

    def again(self, steps: Steps, seed: int, lag: float, base: int) -> Found | None:
        """At these moments, whatever changes then."""
        return self.attempt(timed(steps), seed, lag, base)

    def watched(self, steps: list[moves.Draw], seed: int, lag: float, base: int) -> Found | None:
        """One run; then what becomes of it where one of its commands is kept waiting, at moments not yet tried."""
        found, played, windows = apart(lambda: watched(self.worlds[base], steps, seed, lag, base))
        self.runs += 1
        if found or not windows:
            return cast("Found | None", found)
        strikes = [strike(self.rng, played, window) for window in choose(self.rng, windows, self.tried)]
        left, found = apart(lambda: struck(self.worlds[base], played, strikes, seed, lag, base))
        self.runs += left
        return cast("Found | None", found)

    def next(self) -> Found | None:
        """Some runs: first what each file does, without its conditions, then random ones."""
        rng = self.rng
        seed, base = rng.getrandbits(32), rng.randrange(BASES)
        if self.known:
            return self.watched(timed(self.known.pop(0)), seed, 0.0, base)
        steps = moves.aimed(rng, rng.choice((2, 3, 3, 4, 6)))
        if rng.random() < WATCHED:
            return self.watched(steps, seed, rng.choice((0.0, 0.0, 0.3, 1.0)), base)
        return self.attempt(steps, seed, rng.choice((0.0, 0.3, 1.0)), base)

    def shrink(self, found: Found) -> Found:
        """Fewer and simpler steps that still break a promise of the same kind."""
        best, better = found, True
        while better:
            better = False
            for steps in simpler(best.steps):
                for seed, lag in ((best.seed, 0.0), (best.seed, best.lag)):
                    again = self.again(steps, seed, lag, best.base)
                    if again and kind(again) == kind(found):
                        best, better = replace(again, steps=steps), True  # what was played adds the noise of floats
                        break
                if better:
                    break
        return best


def timed(steps: Steps) -> list[moves.Draw]:
    """As play() takes them."""
    return [moves.Draw(gap, 0, 0.0, line) for gap, line in steps]


def kind(found: Found) -> str:
    """Of what sort the violation is, whatever the numbers in it."""
    return " ".join(word for word in found.what.split(" ", 1)[1].split(": ")[0].split() if not word[0].isdigit())[:40]


def simpler(steps: Steps) -> list[Steps]:
    """One step less, or a rounder gap."""
    out = [[*steps[:i], *steps[i + 1:]] for i in range(len(steps)) if len(steps) > 1]
    for i, (gap, line) in enumerate(steps):
        for nicer in (0.0, round(gap), round(gap, 1)):
            if nicer < gap or (nicer != gap and len(str(nicer)) < len(str(gap))):
                out.append([*steps[:i], (float(nicer), line), *steps[i + 1:]])
    return out


def scenario(found: Found) -> str:
    """As a scenario file would tell it."""
    lines = [f"# {found.what}", f"pace: base={found.base} seed={found.seed} lag={found.lag:g}", ""]
    for gap, line in found.steps:
        lines += ([f"wait {round(gap, 6)}"] if gap else []) + [line]
    return "\n".join(lines) + "\n"


def parallel(seconds: float, seed: int, processes: int, report: Callable[[Found], bool]) -> int:
    """The number of runs of so many processes, each with `seconds` of processor time; ends where `report` says no."""
    read, write = os.pipe()
    pipe = read, write
    children = [_worker(slice(number, None, processes), seed + number, seconds, pipe) for number in range(processes)]
    os.close(write)
    runs = 0
    try:
        with os.fdopen(read, "rb") as stream:
            for line in stream:
                words = line.decode().split(maxsplit=1)
                if words[0] == "runs":
                    runs += int(words[1])
                elif not report(Found(**json.loads(words[1]))):
                    break
    finally:
        for child in children:
            os.kill(child, signal.SIGTERM)
        for child in children:
            os.waitpid(child, 0)
    return runs


def spent() -> float:
    """Seconds of processor time of this process and of all that it has waited for: an idle machine is not needed."""
    return sum(os.times()[:4])


def _worker(share: slice, seed: int, seconds: float, pipe: tuple[int, int]) -> int:
    """First this share of the scenario files, then at random; ends when nobody reads any more what it finds."""
    child = os.fork()
    if child:
        return child
    read, write = pipe
    os.close(read)
    try:
        searcher = Searcher(share, random.Random(seed))
        start, told = spent(), 0
        while spent() - start < seconds:
            found = searcher.next()
            if found or searcher.runs - told >= 20:
                os.write(write, f"runs {searcher.runs - told}\n".encode())
                told = searcher.runs
            if found:
                os.write(write, f"found {json.dumps(asdict(searcher.shrink(found)))}\n".encode())
        os.write(write, f"runs {searcher.runs - told}\n".encode())
        os._exit(0)
    except BrokenPipeError:
        os._exit(1)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def main() -> int:
    command_line = argparse.ArgumentParser(description=__doc__)
    command_line.add_argument("--seconds", type=float, default=60)
    command_line.add_argument("--seed", type=int, default=1)
    command_line.add_argument("--processes", type=int, default=2)
    command_line.add_argument("--all", action="store_true", help="go on after the first finding")
    command_line.add_argument("--timeline", action="store_true")
    options = command_line.parse_args()
    found: list[Found] = []

    def report(one: Found) -> bool:
        found.append(one)
        print(scenario(one), flush=True)
        if options.timeline:
            print(one.timeline, flush=True)
        return bool(options.all)
    started = time.monotonic()
    runs = parallel(options.seconds, options.seed, options.processes, report)
    seconds = f"{time.monotonic() - started:.0f} s ({spent():.0f} s of processor time)"
    print(f"{runs} runs in {seconds}, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
