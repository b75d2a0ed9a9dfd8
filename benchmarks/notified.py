"""The load of notifications: a status beside a receiver that takes everything, hangs, or is not there."""

import subprocess
import sys
import time

from benchmarks import load, scenarios
from benchmarks.rig import BRIDGE, Rig, free_port

WITHOUT, HANGS, TAKES, ALARMS = "no receiver", "one that hangs", "one that takes all", "and with alarms"
SUBJECTS = (WITHOUT, HANGS, TAKES, ALARMS)
LOGINS = 5_000
_EVENTS = '"userOnline", "userOffline", "userIdle", "userActive"'
_ALARMS = f'{_EVENTS}, "offline > 10m", "idle > 1h", "flaps > 5/h", "online < 3", "back"'
_TABLE = """
notify_private = true
[[notify]]
name = "bench"
url = "http://127.0.0.1:{port}/"
batch = "1s"
on = [{on}]
"""


def notified(name: str) -> dict[str, float]:
    """200 reports a second, each an event for the receiver; then logins that wait."""
    at = time.time_ns() // 1_000_000
    port = free_port()
    with Rig() as rig:
        config = rig.directory / "presence.toml"
        table = _TABLE.format(port=port, on=_ALARMS if name == ALARMS else _EVENTS)
        config.write_text("" if name == WITHOUT else table)
        how = "hangs" if name == HANGS else "takes"
        receiver = subprocess.Popen(  # even where the bridge does not know it
            [sys.executable, "-m", "benchmarks.subjects.receiver", str(port), how]
        )
        try:
            with rig.subject(BRIDGE, "--config", str(config)) as subject:
                reports = scenarios.report_latencies(rig)
                _, cpu = subject.work_off(load.split(load.logins(LOGINS, 2, at), 4))
        finally:
            receiver.terminate()
            receiver.wait(10)
        return {
            "report p50 ms": scenarios.percentile(reports, 50),
            "report p99 ms": scenarios.percentile(reports, 99),
            "CPU µs/login": cpu / LOGINS / 2 * 1e6,
        }
