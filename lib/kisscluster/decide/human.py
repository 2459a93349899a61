"""A human's word (standby, maintenance, a stopped VM): a counter and yes or no; the higher counter wins."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(r"(?:(yes|no|on|off)(?: ([0-9]{1,15}))?)?")


class Word(NamedTuple):
    """Ordered so that the newest is the largest; of two words of the same age, yes is."""

    counter: int = 0
    yes: bool = False

    @classmethod
    def parse(cls, line: str | None) -> Word:
        """`yes 7`, `no 8`; a mere mark counts as yes, no file and anything else as never said."""
        if line is None:
            return cls()
        match = _LINE.fullmatch(line)
        if not match:
            return cls()
        return cls(int(match[2] or 0), match[1] not in ("no", "off"))

    def __str__(self) -> str:
        return f"{'yes' if self.yes else 'no'} {self.counter}"
