"""Heartbeat datagrams: a magic, an HMAC-SHA256 under the secret, a payload in JSON (DESIGN 6)."""

import hmac
import json
import re
from dataclasses import dataclass
from typing import Any

MAGIC = b"KCH1"
DIGEST = 32
LARGEST = 60000  # octets; a UDP datagram holds 65507
MOST_FACTS = 2000
LONGEST_FACT = 300
_BOOT = re.compile(r"[0-9a-f]{32}")
_VM = r"[a-z][a-z0-9_]{0,14}"
_FACT = re.compile(rf"decision|(drbd|even|yields|claim|ahead)/{_VM}|local/[a-z]{{1,20}}(/{_VM})?")
_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True)
class Payload:
    """What one node says on one network."""

    cluster: str
    node: str
    network: str
    boot: str  # random for each start of the daemon
    seq: int  # grows with every datagram of that start, over both networks
    heard: dict[str, int]  # what it last got from its peer on this network: boot id -> seq
    facts: dict[str, str]


def seal(key: bytes, payload: Payload) -> bytes:
    """The datagram; raises ValueError when there are too many facts for one."""
    body = json.dumps(payload.__dict__, separators=(",", ":"), sort_keys=True).encode("ascii")
    if len(body) > LARGEST:
        raise ValueError(f"{len(body)} octets of facts do not fit into a datagram")
    return MAGIC + hmac.digest(key, MAGIC + body, "sha256") + body


def unseal(key: bytes, datagram: bytes) -> Payload | None:
    """The payload of an authentic and well-formed datagram; nothing is parsed before the HMAC holds."""
    mac, body = datagram[len(MAGIC) : len(MAGIC) + DIGEST], datagram[len(MAGIC) + DIGEST :]
    if not datagram.startswith(MAGIC) or len(mac) < DIGEST:
        return None
    if not hmac.compare_digest(mac, hmac.digest(key, MAGIC + body, "sha256")):
        return None
    try:
        return _checked(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _checked(said: Any) -> Payload | None:
    """Even an authentic peer may run other software: every name, type, length and count is checked."""
    if not isinstance(said, dict) or set(said) != set(Payload.__dataclass_fields__):
        return None
    strings = [said[name] for name in ("cluster", "node", "network", "boot")]
    if not all(isinstance(text, str) and len(text) <= 64 for text in strings) or not _BOOT.fullmatch(said["boot"]):
        return None
    if not _is_count(said["seq"]):
        return None
    heard, facts = said["heard"], said["facts"]
    if not isinstance(heard, dict) or len(heard) > 8 or not all(map(_is_count, heard.values())):
        return None
    if not isinstance(facts, dict) or len(facts) > MOST_FACTS or not all(map(is_fact, facts, facts.values())):
        return None
    return Payload(**said)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_fact(name: Any, value: Any) -> bool:
    """May this be told to the peer, and written down from it?"""
    text = isinstance(name, str) and isinstance(value, str) and len(value) <= LONGEST_FACT
    return text and bool(_FACT.fullmatch(name) and _VALUE.fullmatch(value))
