"""Client ids of programs that only read: rule I1 opens no record for them."""

import re
import secrets

_WATCHER = re.compile("watch-[0-9a-f]{16}")


def fresh_watcher_id() -> str:
    """Return a new client id: 22 characters, because every broker accepts 23 (MQTT 3.1.1 §3.1.3.1)."""
    return f"watch-{secrets.token_hex(8)}"


def is_watcher(client_id: str) -> bool:
    """Return whether a client id is one of these; the browser client makes the same (`presence/ids.js`)."""
    return _WATCHER.fullmatch(client_id) is not None
