"""See who is online: one line for every change of any user.

Run it beside a broker and a bridge, then start and stop examples/hello_presence.py:

    python examples/watch.py mqtt://127.0.0.1:1883 [seconds]

Ends with Ctrl-C, or after the given number of seconds without a change.
"""

import sys

from mqtt_presence import PresenceError, StatusWatcher

url = sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1:1883"
timeout = float(sys.argv[2]) if len(sys.argv) > 2 else None

watcher = StatusWatcher(url)
changes = watcher.changes(timeout=timeout)
try:
    with watcher:
        for change in changes:
            old, new = change
            before = old.state if old else "unknown"
            after = f"{new.state} ({new.connections} connections)" if new else "forgotten"
            print(f"{change.user_id}: {before} -> {after}", flush=True)
        online = sorted(name for name, user in watcher.items() if user.online)
        print("online now:", ", ".join(online) or "nobody")
except KeyboardInterrupt:
    pass
except PresenceError as error:
    sys.exit(str(error))
