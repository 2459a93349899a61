"""Write the timelines into the scenario files, as the simulator has them now: `make golden`, then read the diff."""

from __future__ import annotations

import sys

from tests.scenario.language import FOLDER, TIMELINE, Scenario, load_all
from tests.scenario.sim.play import Failed, Play


def write(scenario: Scenario) -> bool:
    """The file's text but for its timeline stays as a person wrote it; False where the scenario fails."""
    path = FOLDER / f"{scenario.name}.scenario"
    try:
        timeline = Play(scenario).run().timeline()
    except Failed as failed:
        print(failed)
        return False
    text = path.read_text().partition(f"\n{TIMELINE}\n")[0].rstrip()
    path.write_text(f"{text}\n\n{TIMELINE}\n{timeline}\n")
    return True


def main() -> int:
    """All of the simulator's, or those whose names begin as said."""
    wanted = tuple(sys.argv[1:]) or ("",)
    done = [write(scenario) for scenario in load_all("simulator") if scenario.name.startswith(wanted)]
    print(f"{sum(done)} timelines written, {len(done) - sum(done)} scenarios fail")
    return 0 if done and all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
