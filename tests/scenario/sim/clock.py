"""Virtual time, and processes that run in it: greenlets that sleep and wait without waiting."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet


class Life:
    """One run of a machine: what belongs to it stands still with it and ends with it."""

    def __init__(self) -> None:
        self.over = False
        self.hung = False
        self.deferred: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.tasks: dict[Task, None] = {}


class Timer:
    """Something that will happen; `cancel` takes it back."""

    __slots__ = ("action", "arguments", "life", "time")

    def __init__(self, time: float, life: Life | None, action: Callable[..., object], arguments: tuple[object, ...]):
        self.time, self.life, self.action, self.arguments = time, life, action, arguments

    def cancel(self) -> None:
        self.action = _nothing


def _nothing(*_: object) -> None:
    pass


class Clock:
    """The one source of time and order: the same seed gives the same run."""

    def __init__(self) -> None:
        self.now = 1000.0  # both machines have been up for a while
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self.hub = getcurrent()

    def after(self, seconds: float, life: Life | None, action: Callable[..., object], *arguments: object) -> Timer:
        """Do something after so long, unless its machine is off by then."""
        timer = Timer(self.now + seconds, life, action, arguments)
        heapq.heappush(self._heap, (timer.time, next(self._numbers), timer))
        return timer

    def run(self, until: float) -> None:
        """Let everything happen until then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, timer = heapq.heappop(heap)
            self.now = max(self.now, time)
            life = timer.life
            if life is None or not (life.over or life.hung):
                timer.action(*timer.arguments)
            elif life.hung and not life.over:
                life.deferred.append((timer.action, timer.arguments))
        self.now = max(self.now, until)

    def step(self, until: float) -> None:
        """Let everything happen that happens next, in one moment."""
        self.run(min(until, self._heap[0][0]) if self._heap else until)

    # Processes

    def spawn(self, life: Life, function: Callable[[], object], ended: Callable[[Any], object] = _nothing) -> Task:
        """Start a process at once; `ended` gets what it returns, or None where it was killed."""
        task = Task(self, life, function, ended)
        self.after(0, life, task.resume, None)
        return task

    def sleep(self, seconds: float) -> None:
        """The current process sleeps."""
        task = _current()
        self.after(max(0.0, seconds), task.life, task.resume, None)
        self.hub.switch()

    def wait(self) -> Any:
        """The current process waits until somebody resumes it; what it is resumed with."""
        return self.hub.switch()


class Task(greenlet):
    """A process on one of the machines."""

    def __init__(self, clock: Clock, life: Life, function: Callable[[], object],
                 ended: Callable[[Any], object]) -> None:
        super().__init__(self._body, clock.hub)
        self.clock, self.life, self.function, self.ended = clock, life, function, ended
        self.gone = self.paused = self.missed = False
        self.owner: Any = None
        self.program = ""
        self.argv: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self.signalled: Callable[[], object] = self.kill  # SIGTERM
        life.tasks[self] = None

    def _body(self, _: object) -> None:
        result = None
        try:
            result = self.function()
        except GreenletExit:
            pass
        finally:
            self.gone = True
            self.life.tasks.pop(self, None)
        if not self.life.over:
            self.ended(result)

    def resume(self, value: object) -> None:
        """Let it go on, in the hub's next moment."""
        if self.paused:
            self.missed = True
        elif not self.gone:
            self.switch(value)

    def kill(self) -> None:
        """SIGKILL: what it holds is released, nothing else of it runs."""
        if self.gone:
            return
        if getcurrent() is self:
            raise GreenletExit
        if self:
            self.throw(GreenletExit)
        else:
            self.gone = True
            self.life.tasks.pop(self, None)
            self.ended(None)


def _current() -> Task:
    task = getcurrent()
    assert isinstance(task, Task)
    return task


def end(clock: Clock, life: Life) -> None:
    """The machine is off: everything on it is gone."""
    life.over = True
    for task in list(life.tasks):
        if getcurrent() is not task:
            task.kill()
    life.deferred.clear()


def hang(life: Life) -> None:
    """It stands still."""
    life.hung = True


def wake(clock: Clock, life: Life) -> None:
    """It goes on; what was due meanwhile happens now, in its order."""
    life.hung = False
    deferred, life.deferred = life.deferred, []
    for action, arguments in deferred:
        clock.after(0, life, action, *arguments)
