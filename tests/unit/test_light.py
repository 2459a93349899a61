"""base/light.py: imports that a command does not pay for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kisscluster.base.light import without

LIB = Path(__file__).parents[2] / "lib"


def test_what_is_left_out_is_there_again() -> None:
    sys.modules.pop("pprint", None)
    with without("pprint"):
        from pprint import pprint  # noqa: PLC0415
        assert pprint is None
    from pprint import pprint as printer  # noqa: PLC0415
    assert callable(printer)


def test_what_was_imported_before_is_kept() -> None:
    import json  # noqa: PLC0415
    with without("json"):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json


def test_an_error_leaves_nothing_behind() -> None:
    sys.modules.pop("pprint", None)
    with pytest.raises(ZeroDivisionError), without("pprint"):
        raise ZeroDivisionError
    assert "pprint" not in sys.modules


def test_a_command_starts_without_inspect() -> None:
    code = "import sys, kisscluster.commands.failover; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(LIB)}, capture_output=True, text=True,
                          check=True)
    assert "configobj.validate" in said.stdout.split()
    assert not {"inspect", "pprint"} & set(said.stdout.split())
