"""Be online: log in, become idle after ten seconds without a key, and log out at the end.

Run it beside a broker and a bridge, and watch the user with examples/watch.py:

    python examples/hello_presence.py mqtt://alice@127.0.0.1:1883

Press Enter to report activity, Ctrl-D to log out. After kill -9, the broker publishes the will instead.
"""

import sys

from mqtt_presence import BrokerUrl, PresenceClient, PresenceError

try:
    url = BrokerUrl.parse(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1:1883")
    user = url.username or "alice"
    with PresenceClient(url, user=user, user_agent="hello_presence.py") as client:
        print(f"{user} is online, connection {client.connection_id}", flush=True)
        try:
            client.monitor.start(threshold=10, interval=1)
        except PresenceError as error:
            print(f"No idle monitor: {error}", flush=True)
        else:
            print(f"The server's clock is ahead by {client.server_time.offset:.3f} s.", flush=True)
        for _line in sys.stdin:
            client.monitor.ping()
            print(f"ping; bridge {'online' if client.bridge_connected else 'offline'}", flush=True)
except KeyboardInterrupt:
    pass
except PresenceError as error:
    sys.exit(str(error))
print(f"{user} has left")
