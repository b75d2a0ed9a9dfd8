#!/bin/sh
# The smallest device: nothing but mosquitto_pub and empty payloads.
#
# It logs in, says so again every few seconds as a sign of life, and leaves a will. Run it beside a broker and a
# bridge, and watch it with `mqtt-presence watch`:
#
#     examples/device.sh [user] [device] [times]
#
# After so many times (default: a million) it leaves politely. Ctrl-C or kill -9 is pulling the plug: the broker
# publishes the will. HOST, PORT and PASSWORD say where the broker is and how to get in, EVERY how many seconds
# to wait, and VERB=activity sends heartbeats: a device that stops sending them is shown as idle after a minute.
set -eu

user=${1:-lamp}
device=${2:-esp1}
times=${3:-1000000}
every=${EVERY:-20}
verb=${VERB:-login}
topic=presence/$user/$device

# The client id is the third level of the topic: brokers with access rules let a client write there only.
say() {
    mosquitto_pub -h "${HOST:-127.0.0.1}" -p "${PORT:-1883}" \
        -u "$user" ${PASSWORD:+-P "$PASSWORD"} -i "$device" -q 1 -n "$@"
}

# One connection. The same login again is the same connection: it makes no new record and no event. The keep
# alive (-k, seconds) decides how soon the broker notices that the network is gone.
say -t "$topic/$verb" --repeat "$times" --repeat-delay "$every" -k 30 \
    --will-topic "$topic/will" --will-qos 1

# mosquitto_pub has left in peace, so there is no will. A broker such as mosquitto tells nobody: say it.
say -t "$topic/logout"
