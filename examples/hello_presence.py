"""Be there: log in, be shown as online, idle after ten seconds without a key, and offline when you leave.

Run it beside a broker and a bridge, and watch yourself with examples/watch.py:

    python examples/hello_presence.py mqtt://alice@127.0.0.1:1883

Press Enter for a sign of activity, Ctrl-D to leave politely; kill -9 it to see the broker tell of it instead.
"""

import sys

from mqtt_presence.client import PresenceClient
from mqtt_presence.errors import PresenceError
from mqtt_presence.mqtt.url import BrokerUrl

try:
    url = BrokerUrl.parse(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1:1883")
    user = url.username or "alice"
    with PresenceClient(url, user=user, user_agent="hello_presence.py") as me:
        print(f"{user} is online, connection {me.connection_id}", flush=True)
        try:
            me.monitor.start(threshold=10, interval=1)
        except PresenceError as error:
            print(f"No idle monitor: {error}", flush=True)
        else:
            print(f"The server's clock is ahead by {me.server_time.offset:.3f} s.", flush=True)
        for _line in sys.stdin:
            me.monitor.ping()
            print(f"ping; bridge {'there' if me.bridge_connected else 'not there'}", flush=True)
except KeyboardInterrupt:
    pass
except PresenceError as error:
    sys.exit(str(error))
print(f"{user} has left")
