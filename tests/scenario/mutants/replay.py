"""Play what a search has found once more: exit 1 and the violation where it still breaks a promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.scenario.language import FOLDER, parse_step
from tests.scenario.language import load as load_file
from tests.scenario.mutants.find import UNIT
from tests.scenario.search import timed
from tests.scenario.sim.play import Play
from tests.scenario.sim.trial import Found, attempt, healthy


def load(path: Path) -> Found:
    """A scenario that search.py printed: its pace, and its steps with the waits before them."""
    base, seed, lag = 0, 0, 0.0
    steps: list[tuple[float, str]] = []
    gap = 0.0
    for line in path.read_text().splitlines():
        if line.startswith("pace:"):
            words = dict(word.split("=") for word in line.split()[1:])
            base, seed, lag = int(words["base"]), int(words["seed"]), float(words["lag"])
        elif line.startswith("wait "):
            gap += float(line.split()[1])
        elif line and not line.startswith("#"):
            parse_step(line)
            steps.append((gap, line))
            gap = 0.0
    return Found("", steps, base, seed, lag)


def _holds(name: str) -> bool:
    try:
        Play(load_file(FOLDER / f"{name}.scenario")).run()
    except AssertionError as failed:
        print(str(failed).splitlines()[0])
        return False
    return True


def main() -> int:
    ended = 0
    for name in sys.argv[1:]:
        if match := re.search("^scenario: (.*)$", Path(name).read_text(), re.MULTILINE):
            ended |= not _holds(match[1])
            continue
        if match := re.search("^test: (.*)$", Path(name).read_text(), re.MULTILINE):
            ended |= bool(subprocess.run([sys.executable, "-m", *UNIT[:-1], match[1]], check=False).returncode)
            continue
        run = load(Path(name))
        found = attempt(healthy(run.base), timed(run.steps), run.seed, run.lag, run.base)
        print(f"{Path(name).stem}: {found.what if found else 'nothing is broken'}")
        ended |= bool(found)
    return ended


if __name__ == "__main__":
    sys.exit(main())
