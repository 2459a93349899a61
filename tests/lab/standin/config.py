"""Resources as the real drbdadm-84 reads them from /etc/drbd.d: it parses, we take its XML."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from tests.lab.standin.model import Fencing, Options, Refused

DRBDADM = "/lib/drbd/drbdadm-84"


@dataclass(frozen=True)
class Config:
    """One resource, seen from this node; only its volume 0 is kept."""

    name: str
    minor: int
    disk: str
    address: str
    peer: str
    peer_address: str
    port: int
    first: bool
    options: Options
    net: Mapping[str, str]
    handlers: Mapping[str, str]

    def seconds(self, option: str, default: float, unit: float = 1.0) -> float:
        """A time option of the net section, in seconds."""
        return float(self.net[option]) * unit if option in self.net else default


def load(name: str) -> Config:
    """Read a resource."""
    done = subprocess.run([DRBDADM, "dump-xml", name], capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.returncode, done.stderr.strip())
    return parse(done.stdout, socket.gethostname())


def load_to_connect(name: str) -> Config:
    """Read a resource; refuse one whose local address is not there [verify_ips]."""
    config = load(name)
    if not address_exists(config.address):
        raise Refused(10, f"in resource {name}:\n\tIP {config.address} not found on this host.")
    return config


def address_exists(address: str) -> bool:
    """Is it one of ours?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def names() -> list[str]:
    """All resources of this node."""
    done = subprocess.run([DRBDADM, "sh-resources"], capture_output=True, text=True)
    return done.stdout.split()


def parse(xml: str, node: str) -> Config:
    """One <resource> of `drbdadm dump-xml`."""
    resource = ElementTree.fromstring(xml)
    hosts = {host.get("name", ""): host for host in resource.iter("host")}
    mine, peer = hosts[node], next(name for name in hosts if name != node)
    net = _section(resource, "net")
    options = Options(
        fencing=Fencing(_section(resource, "disk").get("fencing", "dont-care")),
        two_primaries=net.get("allow-two-primaries") == "yes",
        after_sb_0pri=net.get("after-sb-0pri", "disconnect"),
        suspend_no_data=_section(resource, "options").get("on-no-data-accessible") == "suspend-io")
    port = mine.find("address")
    assert port is not None
    return Config(
        name=resource.get("name", ""), minor=int(_device(mine).get("minor", "0")),
        disk=_text(mine, "volume/disk"),
        address=_text(mine, "address"), peer=peer, peer_address=_text(hosts[peer], "address"),
        port=int(port.get("port", "0")), first=node < peer, options=options, net=net,
        handlers=_section(resource, "handlers"))


def _device(host: ElementTree.Element) -> ElementTree.Element:
    device = host.find("volume/device")
    assert device is not None
    return device


def _text(host: ElementTree.Element, path: str) -> str:
    return (host.findtext(path) or "").strip()


def _section(resource: ElementTree.Element, name: str) -> dict[str, str]:
    section = resource.find(f"section[@name='{name}']")
    found = [] if section is None else section.findall("option")
    return {option.get("name", ""): option.get("value", "yes") for option in found}
