"""Play the scenario files until one breaks; print its name. The shortest first."""

from __future__ import annotations

import sys

from tests.scenario.language import load_all
from tests.scenario.sim.play import Failed, Play


def main() -> int:
    for scenario in sorted(load_all("simulator"), key=lambda scenario: len(scenario.steps)):
        try:
            Play(scenario).run()
        except (Failed, AssertionError) as failed:
            print(f"# {str(failed).splitlines()[0]}\nscenario: {scenario.name}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
