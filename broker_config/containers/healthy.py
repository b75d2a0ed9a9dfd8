"""The health check of the container image: asks /healthz of the process in this container.

Ends with 0 if the process answers. The port is that of the page, or monitor_port where it is set.
"""

import os
import sys
import urllib.error
import urllib.request

port = os.environ.get("MQTT_PRESENCE_MONITOR_PORT") or os.environ.get("MQTT_PRESENCE_WEB_PORT") or "8080"
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=4):
        pass
except (urllib.error.URLError, OSError) as error:
    sys.exit(f"port {port}: {error}")
