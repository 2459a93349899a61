"""The Ansible collection: ansible-lint's strictest profile, both ends of the versions, every variable explained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lint.project import ROOT, files, lint, text, tool

COLLECTION = ROOT / "ansible"
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir())
DEBIAN = Path("/usr/bin/ansible-playbook")  # 2.14 on Debian 12; build/venv has what Debian 13 has


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy where Ansible looks for it: by its name, and what the tools leave beside it is gone afterwards."""
    top = tmp_path_factory.mktemp("collections")
    target = top / "ansible_collections/kisscluster/pair"
    (top / "ansible.cfg").write_text("")
    for path in files():
        if path.is_relative_to(COLLECTION):
            copy = target / path.relative_to(COLLECTION)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    return target


def surroundings(collection: Path) -> dict[str, str]:
    """Ansible looks here, and nowhere else."""
    top = collection.parents[2]
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(top),
        "ANSIBLE_HOME": str(top / "home"),
        "ANSIBLE_CONFIG": str(top / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONPATH": "",
    }


def test_ansible_lint(collection: Path) -> None:
    command = [tool("ansible-lint"), "--offline", "--nocolor", "-q"]
    environment = surroundings(collection) | {"PATH": f"{ROOT}/build/venv/bin:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=collection, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (COLLECTION / "playbooks").glob("*.yml")))
@pytest.mark.parametrize("program", ["debian", "venv"])
def test_syntax(collection: Path, playbook: str, program: str) -> None:
    command = tool("ansible-playbook") if program == "venv" else str(DEBIAN)
    if not Path(command).exists():
        pytest.skip("ansible-core is not installed: make deps")
    example = collection / "inventory.example.yml"
    said = lint(command, "--syntax-check", "-i", example, f"kisscluster.pair.{playbook}", **surroundings(collection))
    assert said.splitlines()[-1] == f"playbook: {collection}/playbooks/{playbook}.yml"


def variables(path: str, pattern: str) -> set[str]:
    """The inventory's variables that a file names."""
    return set(re.findall(pattern, text(path), re.M))


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_specified_explained_and_has_its_default(role: str) -> None:
    folder = f"ansible/roles/{role}"
    specified = variables(f"{folder}/meta/argument_specs.yml", r"^ +((?:kisscluster|vms|upgrade)_\w+):$")
    defaults = variables(f"{folder}/defaults/main.yml", r"^(\w+):")
    required = variables(f"{folder}/meta/argument_specs.yml", r"^ +(\w+):\n +type: .*\n +required: true$")
    shown = variables("ansible/inventory.example.yml", r"^ +(?:# )?((?:kisscluster|vms|upgrade)_\w+):")
    assert defaults == specified - required
    assert specified <= shown


def test_version_is_the_package_s() -> None:
    (version,) = re.findall(r"^version: (\d+\.\d+)\.0$", text("ansible/galaxy.yml"), re.M)
    assert text("debian/changelog").startswith(f"kisscluster ({version})")
