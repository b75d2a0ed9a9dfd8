"""The bridge as a service: it listens on nothing, and its unit gives it no more than it needs."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from mqtt_presence.bridge.monitoring.vitals import STUCK_AFTER_S
from tests.support.brokers import Mosquitto
from tests.support.commands import Commands

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "broker_config/systemd/mqtt-presence.service"
_LISTEN = "0A"


def listening(pid: int) -> set[str]:
    """Return the local addresses on which a process accepts connections, or gets datagrams."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        target = str(handle.readlink())
        if target.startswith("socket:["):
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[9] in inodes and (table.startswith("udp") or fields[3] == _LISTEN):
                found.add(f"{table} {fields[1]}")
    return found


def test_run_listens_on_nothing(commands: Commands, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """The bridge beside a broker has one connection out, and no port."""
    running = commands.start("run", "--broker", mosquitto.url, "--database", sqlite_url)
    running.says("connected to")
    assert listening(running.process.pid) == set()
    running.end()


def test_up_listens_on_loopback_only(commands: Commands) -> None:
    """Unless told otherwise; and the way of looking finds what is there."""
    running = commands.start(
        "up", "--port", "0", "--ws-port", "0", "--database", f"sqlite:///{commands.directory}/x.db"
    )
    running.says("connected to")
    found = listening(running.process.pid)
    assert len(found) >= 2
    assert {address.split()[1].split(":")[0] for address in found} == {"0100007F"}
    limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    few, most = re.search(r"Max open files +(\d+) +(\d+|unlimited)", limits).groups()
    assert int(few) >= (12_000 if most == "unlimited" else min(12_000, int(most))), (
        "each client is an open file"
    )
    running.end()


def test_dependencies_are_bounded() -> None:
    """What is installed tomorrow is of a version that was at least thought of: each has an upper bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["bridge"], *extras["postgresql"]]
    assert len(wanted) >= 9
    assert [line for line in wanted if not re.search(r"<\d|==\d", line)] == []


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(UNIT)
    return parser


def test_unit_hardens() -> None:
    """No rights, no writing but of its own directory, no listening, no secret in the unit."""
    service = unit()["Service"]
    for name in (
        "DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectKernelTunables",
        "ProtectKernelModules", "ProtectControlGroups", "ProtectClock", "RestrictNamespaces", "RestrictSUIDSGID",
        "LockPersonality", "MemoryDenyWriteExecute",
    ):  # fmt: skip
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["SocketBindDeny"] == "any"
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 2 * STUCK_AFTER_S, "/healthz says so first"
    assert "AF_UNIX" in service["RestrictAddressFamilies"], "the way to systemd"
    assert service["UMask"] == "0077"
    assert service["LoadCredential"].startswith("mqtt-presence.toml:")
    assert "run --config %d/mqtt-presence.toml" in service["ExecStart"]
    assert "://" not in service["ExecStart"]
    assert "PASS" not in UNIT.read_text()


def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, and `security` little; where systemd is not, its words are known."""
    command = Path(sys.executable).with_name("mqtt-presence")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/mqtt-presence/bin/mqtt-presence", str(command)))
    known = set(unit()["Service"])
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert known >= {"ExecStart", "LoadCredential", "StateDirectory", "SystemCallFilter"}
        assert all(name[0].isupper() and name.isalpha() for name in known)
        return
    verified = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:]
