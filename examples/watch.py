"""See who is there: one line for every change of any user.

Run it beside a broker and a bridge, then let examples/hello_presence.py come and go:

    python examples/watch.py mqtt://127.0.0.1:1883 [seconds]

With seconds it ends when nothing has changed for so long; else with Ctrl-C.
"""

import sys

from mqtt_presence.client import StatusWatcher
from mqtt_presence.errors import PresenceError

url = sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1:1883"
patience = float(sys.argv[2]) if len(sys.argv) > 2 else None

watcher = StatusWatcher(url)
changes = watcher.changes(timeout=patience)
try:
    with watcher:
        for change in changes:
            old, new = change
            before = old.state if old else "unknown"
            after = f"{new.state} ({new.connections} connections)" if new else "forgotten"
            print(f"{change.user_id}: {before} -> {after}", flush=True)
        print(
            "online now:",
            ", ".join(sorted(name for name, user in watcher.items() if user.online)) or "nobody",
        )
except KeyboardInterrupt:
    pass
except PresenceError as error:
    sys.exit(str(error))
