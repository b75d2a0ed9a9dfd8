"""Forgetting a user for the page: as `mqtt-presence forget` does, in a thread of its own.

The records are deleted and a tombstone stays; the bridge finds it, and clears the status at the broker.
"""

import asyncio
import concurrent.futures
import logging

from mqtt_presence.errors import PresenceError
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store
from mqtt_presence.web.database_reader import BusyError

log = logging.getLogger(__name__)


class Forgetting:
    """Forgets one user at a time.

    Args:
        url: the URL of the bridge's database.

    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "web-forgetting")
        self._is_busy = False

    async def forget(self, user: str) -> int | None:
        """Delete a user with all records.

        Returns:
            The number of records; None if the user is unknown.

        Raises:
            BusyError: another user is being forgotten.
            StoreError: the user is not forgotten, or not wholly; the call may be repeated.

        """
        if self._is_busy:
            raise BusyError("another user is being forgotten")
        self._is_busy = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._forget, UserId(user))
        finally:
            self._is_busy = False

    def close(self) -> None:
        """Stop; a deletion in progress ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _forget(self, user: UserId) -> int | None:
        store = Store(self._url)
        try:
            deleted = store.forget(user)
        except PresenceError as error:
            log.error("the page cannot forget user=%s: %s", user, error)  # noqa: TRY400 - the message has it all
            raise
        finally:
            store.close()
        if deleted is not None:
            log.info("forgotten from the page user=%s records=%s", user, deleted)
        return deleted
