"""The kernel's list of listening sockets: what a server listens on, whatever its configuration says."""

import ipaddress
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def listening(*pids: int) -> set[tuple[str, int]]:
    """Return address and port of each TCP socket that one of these processes listens on."""
    inodes = {inode for pid in pids for inode in _sockets_of(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((_address(address), int(port, 16)))
    return found


def with_children(pid: int) -> list[int]:
    """Return the process and all that it has started."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _sockets_of(pid: int) -> set[str]:
    names = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            names.add(str(descriptor.readlink()))
    return {name[len("socket:[") : -1] for name in names if name.startswith("socket:[")}


def _address(digits: str) -> str:
    """Read the kernel's spelling: words of 32 bits in the machine's order."""
    words = (bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)
