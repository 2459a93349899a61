"""The Debian package: lintian, built twice, and through its life in a fresh Debian 12 and 13."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import build, package
from tests.lab.say import run_logged
from tests.lint.project import COMMANDS, ROOT, lint, text, tool

RELEASES = ["bookworm", "trixie"]
OPTIONS = [
    "--variant=minbase",
    "--aptopt=Apt::Install-Recommends false",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
]
# what a purge must restore; users stay (policy 9.2.2), dpkg keeps its own books
SKIPPED = ["proc", "sys", "dev", "tmp", "mnt", "var/lib/dpkg", "var/log"]
BOOKS = re.compile(r"/etc/(passwd|group|g?shadow|subuid|subgid|\.pwd\.lock)-?|/var/cache/ldconfig.*")


@pytest.fixture(scope="module")
def deb() -> Path:
    tool("dpkg-buildpackage")
    return package.deb()


def dependencies(deb: Path) -> list[str]:
    """The first alternative of everything that it depends on, without versions."""
    field = subprocess.run(["dpkg", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    return sorted(re.split(r"[ :(|]", item.strip())[0] for item in field.split(","))


def root(release: str, deb: Path) -> Path:
    """A Debian of that release with what the package depends on, without the package."""
    wanted = dependencies(deb)

    def make(work: Path) -> None:
        command = ["mmdebstrap", *OPTIONS, f"--include={','.join(wanted)}", release, str(work / "root")]
        run_logged(command, work / "log", f"Debian {release} for the package")

    return build.cached(f"package-{release}", build.digest(release, *wanted, *OPTIONS), make) / "root"


class Machine:
    """A throw-away copy of a root in which commands run; it is gone when its shell is."""

    def __init__(self, base: Path, deb: Path) -> None:
        layers = f"lowerdir={base},upperdir=/mnt/upper,workdir=/mnt/work"
        setup = (
            "mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work /mnt/root && "
            f"mount -t overlay overlay -o {layers} /mnt/root && mount -t proc proc /mnt/root/proc && "
            "mount --bind /dev /mnt/root/dev && "
            f"cp {deb} /mnt/root/tmp/new.deb && exec chroot /mnt/root /bin/sh"
        )
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        self.shell = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def run(self, command: str, *, expect: int | None = 0) -> str:
        """What a shell command prints; asserts its exit status unless expect is None."""
        assert self.shell.stdin and self.shell.stdout
        self.shell.stdin.write(f"( {command}\n) </dev/null; status=$?; echo; echo END-OF-COMMAND $status\n")
        self.shell.stdin.flush()
        lines: list[str] = []
        for line in self.shell.stdout:
            if line.startswith("END-OF-COMMAND"):
                printed = "".join(lines).removesuffix("\n")
                assert expect in (None, int(line.split()[1])), f"{command}: {line}{printed}"
                return printed
            lines.append(line)
        raise AssertionError(f"{command}: the shell ended\n{''.join(lines)}")

    def files(self) -> set[str]:
        """Everything that a purge has to restore."""
        skipped = " -o ".join(f"-path /{path}" for path in SKIPPED)
        listed = self.run(f"find / -xdev \\( {skipped} \\) -prune -o -print")
        return {name for name in listed.splitlines() if not BOOKS.fullmatch(name)}

    def close(self) -> None:
        self.shell.kill()
        self.shell.communicate()


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest, deb: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    tool("mmdebstrap")
    new = Machine(root(request.param, deb), deb)
    yield new
    new.close()


def test_version_is_the_same_everywhere() -> None:
    version = re.match(r"kisscluster \((\S+)\)", text("debian/changelog"))
    assert version and f'VERSION = "{version[1]}"' in text("lib/kisscluster/__init__.py")


def test_lintian(deb: Path) -> None:
    assert lint(tool("lintian"), "--allow-root", "--tag-display-limit=0", "--fail-on=error,warning", deb) == ""


def test_build_is_reproducible(deb: Path, tmp_path: Path) -> None:
    """Again, in another directory, at another time, under another umask and locale."""
    old = os.umask(0o027)
    try:
        lint(
            "make",
            "deb",
            f"DEB_DIR={tmp_path}",
            LC_ALL="C",
            TZ="Pacific/Kiritimati",
            DEB_BUILD_OPTIONS="nocheck",
        )
    finally:
        os.umask(old)
    if package.deb() != deb:
        pytest.skip("somebody edits the sources")
    (again,) = tmp_path.glob("*.deb")
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (deb, again))
    assert first == second


def test_package_holds_what_the_checkout_holds(deb: Path) -> None:
    listed = subprocess.run(["dpkg", "-c", deb], capture_output=True, text=True, check=True).stdout
    paths = {line.split()[5].removeprefix("./") for line in listed.splitlines()}
    for path in (ROOT / "lib").rglob("*.py"):
        assert f"usr/share/kisscluster/{path.relative_to(ROOT)}" in paths
    for unit in (ROOT / "systemd").iterdir():
        assert f"usr/lib/systemd/system/{unit.name}" in paths
    for command in COMMANDS:
        assert {f"usr/bin/{command}", f"usr/share/man/man8/{command}.8.gz"} <= paths
    assert not [path for path in paths if path.startswith(("lib/", "bin/", "sbin/", "run/", "var/"))]


def test_upgrade_stops_nothing_and_restarts_only_the_heartbeat(deb: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-e", deb, tmp_path], check=True)
    scripts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert "preinst" not in scripts
    calls = {name: re.findall(r"deb-systemd-invoke (.*?) (?:>|\|\|)", script) for name, script in scripts.items()}
    assert calls["postinst"] == ["try-restart 'kc-heartbeat.service'"]
    (stop,) = calls["prerm"]
    assert re.search(r'if \[ "\$1" = remove \] && .*\n +deb-systemd-invoke stop', scripts["prerm"])
    assert not re.search("kc-(vm|promote|leave)", stop)


def test_installed_it_runs_and_is_inert(machine: Machine) -> None:
    assert "warn" not in machine.run("dpkg -i /tmp/new.deb").lower()
    for command in COMMANDS:
        assert text("lib/kisscluster/__init__.py").split('"')[-2] in machine.run(f"{command} --version")
    assert machine.run("systemctl --root=/ is-enabled kisscluster.target", expect=None) == "disabled\n"
    assert machine.run("find /etc/systemd -name 'k*c*'") == ""
    assert "_kisscluster-vm" in machine.run("getent group kvm")
    assert machine.run("stat -c '%a %U %G' /run/kisscluster") == "1775 root _kisscluster\n"
    assert machine.run("stat -c '%a %U %G' /etc/kisscluster/kisscluster.conf") == "644 root root\n"
    assert "kisscluster.conf" in machine.run("kc-status 2>&1", expect=78)


def test_installed_again_and_purged_it_leaves_nothing(machine: Machine) -> None:
    before = machine.files()
    machine.run("dpkg -i /tmp/new.deb && dpkg -i /tmp/new.deb")
    machine.run("kc-keygen && kc-status --version && touch /var/lib/kisscluster/ahead/web1")
    machine.run("dpkg -r kisscluster && test -e /etc/kisscluster/secret && test -e /var/lib/kisscluster/ahead/web1")
    machine.run("dpkg -P kisscluster")
    assert machine.files() == before


PRIMARY = "version: 8.4.11\n\n10: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"


def disk(machine: Machine, resource: str) -> None:
    """A resource with minor 10 that is primary here, and where the package looks for it."""
    folder = f"/tmp/by-res/{resource}"
    machine.run(f"printf '{PRIMARY}' > /tmp/drbd; mkdir -p {folder} && ln -s /dev/drbd10 {folder}/0")


SEE = "export KC_PROC_DRBD=/tmp/drbd KC_BY_RES=/tmp/by-res"
REMOVE = f"{SEE}; dpkg -r kisscluster 2>&1"


def test_removal_is_refused_while_a_disk_is_primary(machine: Machine) -> None:
    machine.run("dpkg -i /tmp/new.deb && touch /etc/kisscluster/vm/web1.conf")
    disk(machine, "web1")
    said = machine.run(REMOVE, expect=1)
    assert "primary on this node: web1" in said and "kc-standby on" in said
    assert "installed" in machine.run("dpkg-query -W -f '${Status}' kisscluster")
    machine.run(f"{SEE}; dpkg -i /tmp/new.deb && kc-status --version")
    machine.run(f"sed -i s,Primary/Secondary,Secondary/Primary, /tmp/drbd; {REMOVE}")


def test_removal_does_not_care_about_other_disks(machine: Machine) -> None:
    machine.run("dpkg -i /tmp/new.deb")
    disk(machine, "backup")
    machine.run(REMOVE)
