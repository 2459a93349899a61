"""Build the Debian package once for each state of its sources."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

from tests.lab import build
from tests.lab.say import run_logged

OUTSIDE = ("tests/", ".ci/", ".gitignore", "pyproject.toml")


def sources() -> list[Path]:
    """The files that the package is made of: what git knows or would add, without the tests."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=build.CHECKOUT, capture_output=True, text=True, check=True).stdout
    inside = [name for name in listed.split("\0") if name and not name.startswith(OUTSIDE)]
    return [build.CHECKOUT / name for name in inside if os.path.lexists(build.CHECKOUT / name)]


@cache
def deb() -> Path:
    """The path of the package built from the checkout as it was when this process first asked."""
    files = sources()
    key = build.digest_files(build.CHECKOUT, files)
    directory = build.cached("deb", key, _build)
    return next(directory.glob("*.deb"))


def _build(work: Path) -> None:
    environment = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck noautodbgsym"}
    command = ["make", "deb", f"DEB_DIR={work}"]
    run_logged(command, work / "log", "package", cwd=build.CHECKOUT, env=environment)


def newer(top: Path, version: str) -> Path:
    """The same package with a higher version, made below top."""
    tree, changed = top / "tree", top / f"kisscluster_{version}_all.deb"
    subprocess.run(["dpkg-deb", "-R", deb(), tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, changed], check=True, capture_output=True)
    return changed
