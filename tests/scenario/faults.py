"""Do to a pair of the real worlds what a scenario says."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from typing import cast

from tests.lab.net import Direction
from tests.lab.pair import NETWORKS, NODES, Network, wait
from tests.lab.say import LabError
from tests.scenario.language import Step
from tests.scenario.view import View

TYPED, APPEARS = 150.0, 8.0
MAIN = "systemctl show -P MainPID kc-heartbeat.service"
# the kernel starts it without naming the VM on its command line
HANDLER = """for pid in $(pgrep -f 'kc-fence-pee[r]'); do
  tr '\\0' '\\n' < /proc/$pid/environ | grep -qx DRBD_RESOURCE={vm} && kill -{signal} $pid && exit 0
done; exit 1"""
SIGNALS = {"kill": "KILL", "end": "TERM", "stop": "STOP", "continue": "CONT"}
# the whole of /run may be gigabytes: it shrinks to what is used, and the rest is filled
FILL = """used=$(df -k --output=used /run | tail -1)
mount -o remount,size=$((used + 64))k /run && { dd if=/dev/zero of=/run/lab-full bs=1k 2>/dev/null; true; }"""
FREE = "rm -f /run/lab-full && mount -o remount,size=20% /run"


class Faults:
    """The verbs of a scenario."""

    def __init__(self, view: View) -> None:
        self.view, self.pair = view, view.pair
        self.full: set[str] = set()

    def do(self, step: Step) -> None:
        """One fault, or its repair."""
        names = dict.fromkeys(SIGNALS, "signal")
        method = getattr(self, "_" + names.get(step.verb, step.verb.replace(" ", "_")))
        method(*([step.verb] if step.verb in names else []), *step.words)

    def repair(self) -> None:
        """Whatever was left of them; also after a failure."""
        for node in list(self.view.hung):
            with contextlib.suppress(LabError, OSError, KeyError):
                self._wake(node)
        for node in NODES:
            for network in NETWORKS:
                with contextlib.suppress(LabError, OSError, KeyError):
                    self.pair.cable(node, network, True)
        for node in list(self.full):
            with contextlib.suppress(AssertionError, subprocess.SubprocessError, LabError, OSError, KeyError):
                self._free_run(node)
        self.pair.net.heal()

    def cut(self, node: str) -> None:
        """The power strip is asked to switch a node off."""
        if self.pair.is_on(node):
            self._power_off(node)

    # Machines

    def _power_off(self, node: str) -> None:
        self.pair.power_off(node)
        self.view.hung.discard(node)

    def _power_on(self, node: str) -> None:
        self.view.expected[node] += 1
        self.pair.power_on(node)

    def _panic(self, node: str) -> None:
        self.view.expected[node] += 1
        command = "setsid sh -c 'sleep 0.1; echo c > ${KC_SYSRQ:-/proc/sysrq-trigger}' < /dev/null > /dev/null 2>&1 &"
        self.pair.run(node, command)

    def _hang(self, node: str) -> None:
        self.view.hung.add(node)
        self.pair.pause(node)

    def _wake(self, node: str) -> None:
        self.view.woken.append((time.monotonic(), node))
        self.pair.resume(node)
        self.view.hung.discard(node)

    def _reboot(self, node: str) -> None:
        look = self.view.look(node)
        assert look, f"{node} answers nothing"
        self.view.expected[node] += 1
        with contextlib.suppress(subprocess.SubprocessError):
            self.pair.run(node, "systemctl reboot --no-block", check=False)
        bound = self.view.world.bound(APPEARS)
        wait(lambda: self._leaves(node, look.boot), bound, f"{node} begins to shut down", 0.2)

    def _leaves(self, node: str, boot: str) -> bool:
        look = self.view.look(node)
        return look is None or look.boot != boot or "local/leaving" in look.marks

    # Networks

    def _unplug(self, node: str, network: Network) -> None:
        self.pair.cable(node, network, False)

    def _plug(self, node: str, network: Network) -> None:
        self.pair.cable(node, network, True)

    def _drop(self, node: str, network: Network, direction: str) -> None:
        self.pair.net.silence(node, network, True, cast(Direction, direction or "both"))

    def _delay(self, node: str, network: Network, seconds: str) -> None:
        self.pair.net.spoil(node, network, "delay", float(seconds))

    def _duplicate(self, node: str, network: Network) -> None:
        self.pair.net.spoil(node, network, "duplicate")

    def _reorder(self, node: str, network: Network) -> None:
        self.pair.net.spoil(node, network, "reorder")

    def _narrow(self, node: str, network: Network) -> None:
        self.pair.net.narrow(node, network, True)

    def _pass(self, node: str, network: Network) -> None:
        self.pair.net.silence(node, network, False)
        self.pair.net.narrow(node, network, False)
        self.pair.net.mend(node, network)

    def _part(self, network: Network) -> None:
        self.pair.net.part(network, True)

    def _join(self, network: Network) -> None:
        self.pair.net.part(network, False)

    def _switch(self, state: str) -> None:
        self.pair.switch(state == "on")

    def _ping_address(self, state: str) -> None:
        self.pair.net.ping_address(state == "on")

    # Processes

    def _signal(self, verb: str, node: str, process: str, vm: str) -> None:
        """The process must be there, at once or soon: a fault that hit nothing proves nothing."""
        commands = {
            "kc-heartbeat": f"pid=$({MAIN}) && test \"$pid\" != 0 && kill -{SIGNALS[verb]} $pid",
            "qemu": f"kill -{SIGNALS[verb]} $(cat /run/kisscluster/vm/{vm}/pid)",
            "kc-migrate": f"pid=$(systemctl show -P MainPID kc-migrate@{vm}) && test \"$pid\" != 0 && "
                          f"kill -{SIGNALS[verb]} $pid",
            "kc-fence-peer": HANDLER.format(vm=vm, signal=SIGNALS[verb])}
        bound = self.view.world.bound(APPEARS)
        wait(self._runs(node, commands[process]), bound, f"{process} {vm} runs on {node}", 0.05)

    def _runs(self, node: str, command: str) -> Callable[[], bool]:
        return lambda: self.pair.run(node, command, check=False).returncode == 0

    # The rest of a machine

    def _fail_disk(self, node: str, vm: str) -> None:
        self.pair.fail_disk(node, vm, True)

    def _mend_disk(self, node: str, vm: str) -> None:
        self.pair.fail_disk(node, vm, False)

    def _replace_disk(self, node: str, vm: str) -> None:
        self.pair.fail_disk(node, vm, False, empty=True)

    def _fill_run(self, node: str) -> None:
        self.full.add(node)
        self.pair.run(node, FILL)

    def _free_run(self, node: str) -> None:
        self.pair.run(node, FREE)
        self.full.discard(node)

    def _clock(self, node: str, seconds: str) -> None:
        if self.view.world.name == "container":
            raise LabError("a container's clock is its host's: say `not in container:` in the scenario")
        self.pair.run(node, f"date -s @$(($(date +%s) {seconds[0]} {seconds[1:]}))")

    # People

    def _type(self, node: str, status: str, command: str) -> None:
        done = self.pair.run(node, command, TYPED, check=False)
        said = f"{node}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == int(status or 0), said
