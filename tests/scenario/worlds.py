"""What the real worlds differ in, for a scenario: how slow they are, and how well they can be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab import setup


@dataclass(frozen=True)
class World:
    """Times in seconds. A scenario promises what the design promises where starting a command takes no time."""

    name: str
    factor: float  # of every bound...
    lag: float  # ... and what is added to it
    window: float  # a guest whose last dot is not older runs
    calm: float  # the longest pause of a guest that runs on all the time
    poll: float  # between two looks for what is awaited; under tcg a look keeps a node from its work
    every: float  # between two looks of a watcher
    patience: float  # for one look at a node
    asks: bool  # what a node decides is asked anew; where that takes seconds, its last decision is read
    settings: Mapping[str, object]  # of kisscluster.conf, where a scenario says nothing else

    def bound(self, seconds: float) -> float:
        """How long `within SECONDS` may take here."""
        return seconds * self.factor + self.lag


WORLDS = {
    world.name: world
    for world in (
        # native speed, but two cores for two nodes, four guests' emulators and whoever else is busy
        World("container", factor=1.25, lag=2.0, window=1.5, calm=3.0, poll=0.1, every=0.25, patience=5.0, asks=True,
              settings=setup.SETTINGS),
        # by tcg a command takes a second or two instead of a twentieth, and a failover starts ten of them; how fast it
        # is there is for make bench to say
        World("virtual", factor=2.0, lag=45.0, window=3.0, calm=5.0, poll=0.5, every=2.0, patience=15.0, asks=False,
              settings=setup.SLOW),
    )
}
