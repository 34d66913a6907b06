# SPDX-License-Identifier: MIT
"""Sockets that processes listen on, and their child processes, from /proc."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_LISTENS = "0A"


def listening(*processes: int) -> set[tuple[str, int]]:
    """Addresses and ports that these processes listen on by TCP."""
    owned = {link for process in processes for link in _sockets(process)}
    return {
        _address(local)
        for table in ("tcp", "tcp6")
        for _, local, _, state, *_, inode in (_columns(line) for line in _lines(Path("/proc/net") / table))
        if state == _LISTENS and inode in owned
    }


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def descendants(process: int) -> list[int]:
    """All descendants of a process."""
    children = []
    for task in Path(f"/proc/{process}/task").glob("*"):
        try:
            children += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return children + [below for child in children for below in descendants(child)]


def _lines(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.exists() else []


def _columns(line: str) -> list[str]:
    return line.split()[:10]  # sl, local, remote, state, queues, timer, retransmissions, uid, timeout, inode


def _sockets(process: int) -> list[str]:
    inodes = []
    try:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.append(target[len("socket:[") : -1])
    except OSError:  # it has ended
        pass
    return inodes


def _address(text: str) -> tuple[str, int]:
    """From "0100007F:1F90": words of four bytes, each in the machine's order."""
    host, port = text.split(":")
    words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
    made = IPv4Address(words[0]) if len(words) == 1 else IPv6Address(b"".join(words))
    return str(made), int(port, 16)
