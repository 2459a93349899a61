"""A mark in a guest's memory: it crosses every migration, and no boot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.pair import Pair

EMPTY = 0x1E  # where the BIOS begins to write its keyboard buffer
END = 0x41C  # the address of the place of the next key


def mark(pair: Pair, node: str, vm: str) -> None:
    """Press a key, which the guest of one sector never takes out of the BIOS's buffer."""
    pair.wait(lambda: not monitor(pair, node, vm, "sendkey a") and marked(pair, node, vm), 10, f"{vm} is marked")


def marked(pair: Pair, node: str, vm: str) -> bool:
    """Is it still the same guest that was marked?"""
    said = monitor(pair, node, vm, f"xp /1hx {END:#x}")
    return int(said.split(":")[1], 16) != EMPTY


def monitor(pair: Pair, node: str, vm: str, line: str) -> str:
    """What QEMU's monitor for people answers."""
    words = json.dumps({"command-line": line})
    return str(json.loads(pair.run(node, f"kc-monitor {vm} qmp human-monitor-command '{words}'").stdout))
