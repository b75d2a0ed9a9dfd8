"""The bridge in a thread, where a test can look inside it, and as a process of its own, which can be killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from mqtt_presence.bridge.assembly import Assembly
from mqtt_presence.bridge.config import BridgeConfig, Tuning
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.schedule import Schedule
from mqtt_presence.cli.bridge_config import bridge_config, fleets
from mqtt_presence.settings import load
from mqtt_presence.store import Candidate, Store
from tests.support.waiting import until


class BridgeThread:
    """A bridge in a thread of this process, checking what is due twenty times a second.

    Args:
        settings: as flags.
        given: arguments of `Assembly`.
        configure: changes the configuration that the settings make.

    """

    def __init__(
        self,
        given: Mapping[str, Any] | None = None,
        configure: Callable[[BridgeConfig], BridgeConfig] = lambda config: config,
        **settings: Any,
    ) -> None:
        config = load(settings)
        self.store = Store(config.database, Candidate(config.node, config.seats))
        self.links: list[Link] = []
        self.parts = Assembly(
            configure(bridge_config(config)),
            self.store,
            **{"make_link": self._make_link, "fleets": fleets(config), **(given or {})},
        )
        self.bridge = self.parts.bridge
        self._schedule = Schedule(self.bridge.request, check_every_s=0.05)
        self.bridge.add(self._schedule)
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)
        self.error: BaseException | None = None

    def _make_link(self, *args: Any) -> Link:
        self.links.append(Link(*args))
        return self.links[-1]

    def _run(self) -> None:
        try:
            self.bridge.run()
        except BaseException as error:  # noqa: BLE001 - for the test to see
            self.error = error

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.error or self.is_ready, "the bridge is subscribed")
        if self.error is not None:
            raise self.error
        self._schedule.start()
        return self

    @property
    def is_ready(self) -> bool:
        return self.parts.progress.is_subscribed

    def __exit__(self, *_: object) -> None:
        if self.is_ready or self._thread.is_alive():
            self._schedule.stop()
        self.bridge.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the bridge does not stop"
        if self.error is not None:
            raise self.error


def tuned(**figures: Any) -> Callable[[BridgeConfig], BridgeConfig]:
    """Return the argument `configure` that changes figures of `Tuning`."""
    return lambda config: replace(config, tuning=Tuning(**figures))


class BridgeProcess:
    """The bridge as operators run it.

    Args:
        log: where its log goes.
        ready: entering waits until it is connected.
        environment: more variables for it.
        settings: as flags.

    """

    def __init__(
        self, log: Path, *, ready: bool = True, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        self._ready = ready
        self._more_environment = environment or {}
        self._log = log
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start(ready=self._ready)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is not None:
            self.kill()
        if kind is not None:  # pytest shows it with the failure
            print(f"{self._log}:\n{self.log()[-20_000:]}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, ready: bool = True) -> Self:
        """Start, and wait until it hears the clients."""
        assert self._process is None
        before = self.log().count("connected to")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, env=self._environment())
        if ready:
            self.wait_for_log("connected to", before + 1)
        return self

    def _command(self) -> list[str]:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        return [sys.executable, "-m", "mqtt_presence", "run", *flags]

    def _environment(self) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
        return ours | self._more_environment

    def says(self, text: str, times: int = 1) -> bool:
        """Tell whether its log has said this so often; fail if it has ended by itself."""
        assert self._process is None or self._process.poll() is None, f"the bridge has ended\n{self.log()}"
        return self.log().count(text) >= times

    def wait_for_log(self, text: str, times: int = 1, deadline_s: float = 20.0) -> None:
        """Wait until the log has said this so often."""
        try:
            until(lambda: self.says(text, times), deadline_s=deadline_s)
        except AssertionError as error:
            raise AssertionError(
                f"the log does not say {text!r} {times} times: {error}\n{self.log()}"
            ) from None

    def signal(self, sign: signal.Signals) -> None:
        os.kill(self.pid, sign)

    def stop(self) -> int:
        """End it as an operator would; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        assert self._process is not None
        code = self._process.wait(30)
        self._process = None
        return code

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)
        self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def peak_memory(self) -> int:
        """How much memory it has had at the most, bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def cpu_s(self) -> float:
        """How much processor time it has used, seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
