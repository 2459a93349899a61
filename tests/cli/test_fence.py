"""kc-fence: the proof that the peer is off, by its command or by a person."""

import fcntl
import json
import subprocess
import time

import pytest

from tests.cli.node import DEAD, HEALTHY, FakeNode


def test_a_person_does_not_wait_for_a_command_that_is_tried(node: FakeNode) -> None:
    node.links(DEAD)
    (node.run / "lock").mkdir()
    with (node.run / "lock/fence").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert node.call("kc-fence").returncode == 75
        done = node.call("kc-fence", "--confirm")
    assert (done.returncode, done.stdout) == (0, "peer=node2 proven=yes\n")
    assert (node.run / "local/proven").read_text() == "ab" * 16 + "\n"


@pytest.mark.parametrize("why", ["speaks", "stale"])
def test_a_person_is_not_believed_against_the_facts(node: FakeNode, why: str) -> None:
    node.links(HEALTHY if why == "speaks" else DEAD)
    if why == "stale":
        (node.run / "links").write_text("nonsense")
    assert node.call("kc-fence", "--confirm").returncode == (107 if why == "speaks" else 75)
    assert not (node.run / "local/proven").exists()


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 3", 1), ("sleep 3 & exit 0", 0)])
def test_fence_command(node: FakeNode, command: str, status: int) -> None:
    node.configure(fence=command)
    node.links(DEAD)
    assert node.call("kc-fence").returncode == status
    assert (node.run / "local/proven").exists() is (status == 0)


@pytest.mark.parametrize(("disk", "fenced"), [("UpToDate/Outdated r", False), ("UpToDate/DUnknown s", True)])
def test_a_node_that_left_on_purpose_has_time_to_boot(node: FakeNode, disk: str, fenced: bool) -> None:
    """But not while a guest is frozen by its end."""
    node.configure(fence=f"touch {node.base}/fenced")
    node.drbd("web1", f"WFConnection Primary/Unknown {disk}")
    node.facts({"peer/local/leaving": ""})
    node.links(DEAD)
    with subprocess.Popen(node.argv("kc-fence"), env=node.environment()) as process:
        time.sleep(1.0)
        assert (node.base / "fenced").exists() is fenced
        assert (process.poll() is None) is not fenced
        node.links(HEALTHY)
        assert process.wait(10) == (0 if fenced else 1)


@pytest.mark.parametrize("own", [True, False])
def test_fence_command_of_one_node_alone_is_named(node: FakeNode, own: bool) -> None:
    node.configure(fence="" if own else "true")
    if own:
        file = node.etc / "kisscluster.conf"
        file.write_text(file.read_text().replace("storage = 10.0.0.1", 'storage = 10.0.0.1\n    fence = "true"'))
    problems = json.loads(node.call("kc-status", "--json").stdout)["problems"]
    assert any("only one of the nodes has a fence command" in item["text"] for item in problems)
