"""Datagrams: nothing is parsed before the HMAC holds, and nothing unchecked gets in."""

import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kisscluster.see.protocol import LARGEST, MAGIC, Payload, seal, unseal

KEY = b"k" * 64
SAID = Payload("demo", "node2", "storage", "ab" * 16, 7, {"cd" * 16: 5},
               {"drbd/web1": "Connected Secondary/Secondary UpToDate/UpToDate r", "even/web1": "", "local/fit": "yes"})


def signed(body: bytes) -> bytes:
    return MAGIC + hmac.digest(KEY, MAGIC + body, "sha256") + body


def altered(**changes: Any) -> bytes:
    return signed(json.dumps({**SAID.__dict__, **changes}).encode())


def test_round_trip() -> None:
    assert unseal(KEY, seal(KEY, SAID)) == SAID


def test_other_key_and_every_flipped_octet_are_refused() -> None:
    datagram = seal(KEY, SAID)
    assert unseal(b"other" * 10, datagram) is None
    for index in range(len(datagram)):
        assert unseal(KEY, datagram[:index] + bytes([datagram[index] ^ 1]) + datagram[index + 1:]) is None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    assert unseal(KEY, data) is None
    assert unseal(KEY, MAGIC + data) is None
    assert unseal(KEY, signed(data)) is None


@pytest.mark.parametrize("changes", [
    {"seq": -1}, {"seq": "7"}, {"seq": True}, {"seq": 1 << 63}, {"boot": "../../etc"}, {"boot": 7},
    {"heard": []}, {"heard": {"x": -1}}, {"heard": {str(n): n for n in range(9)}}, {"facts": []},
    {"facts": {"../alive": ""}}, {"facts": {"drbd/../../x": ""}}, {"facts": {"drbd/Web1": ""}},
    {"facts": {"links": ""}},
    {"facts": {"even/web1": "a\nb"}}, {"facts": {"even/web1": "x" * 301}}, {"facts": {"even/web1": 1}},
    {"facts": {"local/fit/a/b": ""}}, {"facts": {f"even/v{n}": "" for n in range(2001)}},
    {"extra": 1}, {"node": "n" * 65},
])
def test_authentic_but_malformed(changes: dict[str, Any]) -> None:
    assert unseal(KEY, altered(**changes)) is None


def test_deeply_nested_json() -> None:
    assert unseal(KEY, signed(b"[" * 100000)) is None


def test_too_much_to_say() -> None:
    with pytest.raises(ValueError, match="datagram"):
        seal(KEY, replace(SAID, facts={f"drbd/v{n}": "x" * 200 for n in range(LARGEST // 200)}))
