"""Search with one rule taken out until a promise breaks, and keep the shortest scenario beside the mutant."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.scenario.mutants import FOUND, MUTANTS, ROOT, Mutant

UNIT = ["pytest", "-x", "-q", "-o", "pythonpath=", "-p", "no:cacheprovider", "tests/unit"]


def inside(mutant: Mutant | None, command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one of our modules with that mutant's lib/ (or the real one)."""
    with tempfile.TemporaryDirectory() as folder:
        if mutant:
            mutant.plant(Path(folder))
        path = f"{folder if mutant else ROOT}/lib:{ROOT}"
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True,
                              timeout=seconds, env=environment, check=False)


def find(mutant: Mutant, seconds: float, seed: int) -> str:
    """What the search printed; where it finds nothing in time, a scenario file that breaks; or nothing."""
    return search(mutant, seconds, seed) or inside(mutant, ["tests.scenario.mutants.files"], 300).stdout or unit(mutant)


def unit(mutant: Mutant) -> str:
    """The unit test that fails: for what takes moments that no search meets in minutes."""
    done = inside(mutant, UNIT, 120)
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return f"# found by no search in minutes\ntest: {failed[0]}\n" if failed else ""


def search(mutant: Mutant, seconds: float, seed: int) -> str:
    """Without the help of a person."""
    command = ["tests.scenario.search", "--seconds", f"{seconds:g}", "--seed", str(seed)]
    done = inside(mutant, command, seconds * 3 + 120)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    print(f"{mutant.name}: {done.stdout.strip().splitlines()[-1]} {done.stderr[-300:]}", flush=True)
    return done.stdout.rpartition("\n\n")[0] + "\n" if done.returncode else ""


def main() -> int:
    command_line = argparse.ArgumentParser(description=__doc__)
    command_line.add_argument("names", nargs="*", help="beginnings of names; default: those that have no scenario yet")
    command_line.add_argument("--seconds", type=float, default=180)
    command_line.add_argument("--seed", type=int, default=1)
    options = command_line.parse_args()
    good = True
    for mutant in MUTANTS:
        file = FOUND / f"{mutant.name}.txt"
        if mutant.name.startswith(tuple(options.names)) if options.names else not file.exists():
            found = find(mutant, options.seconds, options.seed)
            good &= bool(found)
            if found:
                file.write_text(found)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
