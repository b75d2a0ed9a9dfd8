"""Reconnecting: a thread that opens a new network connection whenever the last one is lost."""

import logging
import threading
import time
from dataclasses import replace

from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.network_connection import Hooks, NameNeededError, NetworkConnection, guard
from mqtt_presence.errors import BrokerError, PresenceError
from mqtt_presence.mqtt.backoff import Backoff

_log = logging.getLogger("mqtt_presence.client")
_STEP_TIMEOUT_S = 10.0
_JOIN_S = 2.0


class Reconnector:
    """Keeps a client connected to the broker from `start` to `stop`.

    Args:
        endpoint: the broker, and the user and client id to connect with.
        hooks: the callbacks of each connection.

    """

    def __init__(self, endpoint: Endpoint, hooks: Hooks) -> None:
        self._endpoint = endpoint
        self._hooks = hooks
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._tried = threading.Event()
        self._failure: BrokerError | None = None
        self._connection: NetworkConnection | None = None

    @property
    def connection(self) -> NetworkConnection | None:
        """The current connection if the broker has accepted it; None otherwise."""
        connection = self._connection
        return connection if connection is not None and connection.is_up else None

    def start(self, timeout: float, wait: bool) -> None:
        """Start to connect.

        Args:
            timeout: seconds to wait for the first connection.
            wait: False: return at once, and retry until a connection succeeds.

        Raises:
            BrokerError: the first connection failed; there are no further attempts.
            PresenceError: started already.

        """
        with self._lock:
            if self._thread is not None:
                raise PresenceError("already connected: disconnect first")
            self._stopping = threading.Event()
            self._tried = threading.Event()
            self._failure = None
            thread = threading.Thread(
                target=self._run,
                args=(wait, self._stopping, self._tried),
                name=f"mqtt-presence-{self._endpoint.client_id}",
                daemon=True,
            )
            self._thread = thread
            thread.start()
        if not wait:
            return
        if not self._tried.wait(timeout):
            self._failure = BrokerError(f"{self._endpoint.url} did not answer in {timeout:g} s")
        elif self._stopping.is_set():
            raise BrokerError("the client was disconnected before the broker had answered")
        if self._failure is not None:
            failure = self._failure
            self.stop(clean=True)
            raise failure

    def stop(self, *, clean: bool) -> None:
        """End the connection and the thread. Has no effect while stopped.

        Args:
            clean: send a DISCONNECT; False: close the socket, so that the broker publishes the will.

        """
        with self._lock:
            thread = self._thread
            if thread is None:
                return
            self._stopping.set()
            self._tried.set()  # another thread may wait in `start`
            connection = self._connection
            if connection is not None:
                if clean and connection.is_up:
                    connection.disconnect()
                else:
                    connection.abort()
            if thread is not threading.current_thread():
                up = connection is not None and connection.is_up
                thread.join(_JOIN_S if up else _JOIN_S / 10)  # a thread that connects cannot be interrupted
                if thread.is_alive() and connection is not None:
                    connection.abort()
            self._thread = None

    def _run(self, fail_fast: bool, stopping: threading.Event, tried: threading.Event) -> None:
        backoff = Backoff(self._endpoint.reconnect_min, self._endpoint.reconnect_max)
        while not stopping.is_set():
            began = time.monotonic()
            failure, was_up = self._connect_once(stopping, tried)
            if fail_fast and not tried.is_set():
                self._failure = failure
                tried.set()
                return
            if stopping.is_set():
                return
            lasted_s = time.monotonic() - began if was_up else 0.0
            delay = backoff.next(lasted_s)
            _log.log(
                logging.WARNING if was_up else logging.INFO,
                "%s: %s; trying again in %.1f s",
                self._endpoint.url,
                failure,
                delay,
            )
            stopping.wait(delay)

    def _connect_once(self, stopping: threading.Event, tried: threading.Event) -> tuple[BrokerError, bool]:
        """Serve one connection to its end; return why it ended, and whether the broker had accepted it."""
        was_up = False

        def up(connection: NetworkConnection) -> None:
            nonlocal was_up
            was_up = True
            guard(self._hooks.up, connection)
            tried.set()

        failure = BrokerError("the connection is lost")
        connection: NetworkConnection | None = None
        try:
            connection = NetworkConnection(self._endpoint, replace(self._hooks, up=up), _STEP_TIMEOUT_S)
            self._connection = connection
            if not stopping.is_set():  # `stop` may have run before it could see this connection
                connection.serve()
        except NameNeededError:
            self._endpoint = self._endpoint.with_name()
            return self._connect_once(stopping, tried)
        except BrokerError as error:
            failure = error
        except Exception as error:  # noqa: BLE001, reported to `start` and retried
            _log.exception("the connection failed unexpectedly")
            failure = BrokerError(f"the connection failed: {error}")
        finally:
            if self._connection is connection:
                self._connection = None
            if was_up:
                guard(self._hooks.down)
        return failure, was_up
