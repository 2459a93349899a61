"""Two virtual machines as Debian's installer leaves them: ssh, Python, one address, an empty disk."""

from __future__ import annotations

from pathlib import Path

from tests.lab.pair import NODES, PRODUCTION
from tests.lab.virtual import VirtualPair
from tests.lab.virtual_image import bare_disk

POOL = 256  # MiB
REACHABLE = (
    "ip link set eth0 up && ip address add {address}/24 dev eth0 && "
    "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key && "
    "systemctl stop ssh.service && systemctl reset-failed ssh.service && systemctl start ssh.service"
)


class BarePair(VirtualPair):
    """Their disk for guests is /dev/vdb, their networks eth0 and eth1."""

    disks = ("pool",)

    def __init__(self) -> None:
        super().__init__()
        try:
            for node in NODES:
                self.booted(node)
                self.run(node, REACHABLE.format(address=PRODUCTION[node]), timeout=120)
        except BaseException:
            self.close()
            raise

    def _root(self, deb: Path | None) -> Path:
        return bare_disk(self.base)

    @staticmethod
    def _make_disk(path: Path) -> None:
        with path.open("wb") as disk:
            disk.truncate(POOL << 20)
