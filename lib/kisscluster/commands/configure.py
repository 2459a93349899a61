"""kc-configure: commit the VM definitions, apply them to both nodes with Ansible, push them to both.

A node is asked by ssh, first on the storage cable; who holds that connection holds the other node's lock, too.
"""

import argparse
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kisscluster.base.cli import Call, start
from kisscluster.base.config import Config
from kisscluster.base.exits import Exit, Failure
from kisscluster.base.run import Ended, environment, show
from kisscluster.commands.common import place_of
from kisscluster.see.files import Place, node_facts

SSH = "ssh -oBatchMode=yes -oConnectTimeout=5 -oServerAliveInterval=5 -oServerAliveCountMax=3".split()
BUSY = 75  # what we tell flock(1) to end with
PLAYBOOK = "kisscluster.pair.vms"
HEAD = "refs/heads/main"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="only show what would change on the nodes")
    parser.add_argument("--message", metavar="TEXT", help="of the commit; default: the files that changed")


class Peer(NamedTuple):
    """The other node, as it was reached; has it a repository?"""

    name: str
    address: str
    stocked: bool = False

    def ssh(self, line: str) -> list[str]:
        return [*SSH, f"root@{self.address}", line]


class Git:
    """The working copy and the bare repositories."""

    def __init__(self, call: Call, config: Config, peer: Peer | None) -> None:
        self.call = call
        self.node = config.me.name
        self.work = f"{os.path.dirname(config.file)}/definitions"
        self.bare = call.state.path("definitions.git")
        self.peer = peer

    @property
    def remotes(self) -> dict[str, str]:
        """Each node's bare repository; the peer's where it can be reached."""
        return {self.node: self.bare, **({self.peer.name: self.url(self.peer.address)} if self.peer else {})}

    def url(self, address: str) -> str:
        return f"ssh://root@{address}{self.bare}"

    def argv(self, *words: str) -> list[str]:
        transport = ["-c", f"core.sshCommand={shlex.join(SSH)}"] if words[0] in ("fetch", "push") else []
        return ["git", "-C", self.work, *transport, *words]

    def ask(self, *words: str) -> Ended:
        return self.call.doer.look(*self.argv(*words))

    def has(self, *words: str) -> bool:
        return self.ask(*words).status == 0

    def do(self, *words: str) -> None:
        must(self.call.doer.do(*self.argv(*words)), words[0])

    def prepare(self, config: Config) -> None:
        """Both repositories of this node; a person's own `git push` goes to both nodes, too."""
        for path, words in ((self.bare, ["--bare", self.bare]), (f"{self.work}/.git", [self.work])):
            if not os.path.isdir(path):
                must(self.call.doer.do("git", "init", "--quiet", "--initial-branch=main", *words), "init")
        if not self.has("config", "user.email"):  # or a person could not merge
            self.do("config", "user.name", "root")
            self.do("config", "user.email", f"root@{self.node}")
        if not self.has("config", "branch.main.merge"):
            self.do("config", "branch.main.remote", "origin")
            self.do("config", "branch.main.merge", HEAD)
        if not self.has("config", "remote.origin.pushurl"):
            self.do("config", "remote.origin.url", self.bare)
            self.do("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
            for url in (self.bare, self.url(config.peer.storage)):
                self.do("config", "--add", "remote.origin.pushurl", url)

    def take_in(self, change: bool) -> None:
        """What the repositories have and the working copy lacks; raises Failure NO where histories have diverged."""
        if self.has("rev-parse", "-q", "--verify", "MERGE_HEAD") or not self.has("symbolic-ref", "-q", "HEAD"):
            raise Failure(Exit.NO, f"a merge or rebase is not finished: git -C {self.work} status")
        for name, url in self.remotes.items():
            if name == self.node or self.peer and self.peer.stocked:
                self.do("fetch", "--quiet", url, f"+refs/heads/*:refs/remotes/{name}/*")
            if self.has("rev-parse", "-q", "--verify", f"{name}/main"):
                self.level(f"{name}/main", change)

    def level(self, other: str, change: bool) -> None:
        """The working copy goes forward to that commit, or has it already."""
        unborn = not self.has("rev-parse", "-q", "--verify", "HEAD")
        if not unborn and self.has("merge-base", "--is-ancestor", other, "HEAD"):
            return
        if not unborn and not self.has("merge-base", "--is-ancestor", "HEAD", other):
            raise Failure(
                Exit.NO,
                f"the definitions have diverged: {self.work} and {other} each have commits that the other lacks\n"
                f"see them: git -C {self.work} log --left-right --patch main...{other}\n"
                f"mend it: git -C {self.work} merge --no-edit {other}, then kc-configure",
            )
        if change:
            self.do("merge", "--quiet", "--ff-only", other)
        else:
            self.call.talk(f"{other} has commits that are not here yet: without --check they are taken first")

    def commit(self, message: str | None) -> None:
        """Everything that has changed in the working copy."""
        names = [line[3:] for line in self.ask("status", "--porcelain", "--untracked-files=all").stdout.splitlines()]
        if names:
            self.do("add", "--all")
            user = os.environ.get("SUDO_USER") or "root"
            who = ["-c", f"user.name={user}", "-c", f"user.email={user}@{self.node}"]
            text = message or f"{', '.join(os.path.basename(name) for name in names)} on {self.node}"
            must(self.call.doer.do("git", "-C", self.work, *who, "commit", "--quiet", f"--message={text}"), "commit")

    def push(self) -> None:
        """To both; the peer's working copy follows where nobody has changed something there."""
        if self.peer:
            self.do_there(f"test -d {self.bare} || git init --quiet --bare --initial-branch=main {self.bare}")
        for url in self.remotes.values():
            self.do("push", "--quiet", url, f"HEAD:{HEAD}")
        if self.peer:
            pull = f"git -c advice.diverging=no -C {self.work} pull -q --ff-only {self.bare} main"
            clone = f"git clone -q {self.bare} {self.work}"
            self.do_there(f"if test -d {self.work}/.git; then {pull}; else {clone}; fi", needed=False)

    def do_there(self, line: str, needed: bool = True) -> None:
        if self.peer:
            done = self.call.doer.do(*self.peer.ssh(line))
            if needed:
                must(done, "ssh")
            elif done.status:
                self.call.talk(f"{self.peer.name}: {self.work} lags, and kc-configure there tells why: {done.talk}")


def must(done: Ended, what: str) -> Ended:
    if done.status == 124:
        raise Failure(Exit.TIMEOUT, f"{what}: {done.talk}")
    if done.status:
        raise Failure(Exit.UNAVAILABLE, f"{what}: {done.status}: {done.talk}")
    return done


@contextmanager
def reached(call: Call, place: Place) -> Iterator[Peer | None]:
    """The peer with its lock held, or None where it is down; raises Failure where it speaks, but not by ssh."""
    lock, other, why = call.run.path("lock/configure"), place.config.peer, ""
    held = f"test -d {call.state.path('definitions.git')} && echo stocked || echo empty"
    line = f"mkdir -p {os.path.dirname(lock)}; exec flock -n -E {BUSY} {lock} sh -c '{held}; exec cat'"
    for address in (other.storage, other.production):
        peer = Peer(other.name, address)
        with subprocess.Popen(
            peer.ssh(held if call.dry else line), env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout
            if (word := process.stdout.readline().strip()) in ("stocked", "empty"):
                yield peer._replace(stocked=word == "stocked")
                return
            why = " ".join(process.communicate()[1].split())
        if process.returncode == BUSY:
            raise Failure(Exit.AGAIN, f"kc-configure runs on {other.name}: try again")
    if node_facts(place).alive:
        raise Failure(Exit.UNAVAILABLE, f"{other.name} speaks, but not by ssh: {why}")
    call.talk(f"{other.name} is not reached ({why}): what can be is done here; kc-configure again when it is back")
    yield None


def play(call: Call, config: Config, git: Git) -> None:
    """Ansible's talk is for the person who waits; raises Failure."""
    hosts: dict[str, dict[str, str]] = {config.me.name: {"ansible_connection": "local"}}
    if git.peer:
        ssh = {"ansible_host": git.peer.address, "ansible_user": "root", "ansible_ssh_common_args": shlex.join(SSH[1:])}
        hosts[config.peer.name] = ssh
    names = [node.name for node in config.nodes if node.name in hosts]
    group = {"hosts": {name: hosts[name] for name in names}, "vars": {"ansible_python_interpreter": "/usr/bin/python3"}}
    call.write(call.run, "inventory.json", json.dumps({"kisscluster": group}))
    argv = ["ansible-playbook", "-i", call.run.path("inventory.json"), PLAYBOOK, "-e", f"vms_definitions={git.work}"]
    argv += ["--check", "--diff"] if call.options.check else []
    status = show(argv, call.timeout, call.options.quiet) if call.doer.say(shlex.join(argv)) else 0
    if status:
        kinds = {127: Exit.UNAVAILABLE, 4: Exit.UNAVAILABLE, 124: Exit.TIMEOUT}
        raise Failure(kinds.get(status, Exit.NO), f"{argv[0]} ended with {status}: mend what it says, and try again")


def work(call: Call) -> int:
    place = place_of(call)
    check = call.options.check
    with call.locked("lock/configure", 0), reached(call, place) as peer:
        git = Git(call, place.config, peer)
        if not check:
            git.prepare(place.config)
        if os.path.isdir(f"{git.work}/.git"):
            git.take_in(not check)
        if not check:
            git.commit(call.options.message)
        play(call, place.config, git)
        if not check:
            git.commit(f"ports and minors, by kc-configure on {git.node}")
            git.push()
        head = git.ask("rev-parse", "--short", "HEAD").stdout.strip()
    call.answer(nodes=" ".join(git.remotes), commit=head or "none", check=check)
    return Exit.OK


def main() -> int:
    return start("kc-configure", "Apply the VM definitions to both nodes.", work, arguments, timeout=3600)
