#!/bin/sh
# The smallest device: mosquitto_pub and empty payloads.
#
# The device logs in, repeats the login every few seconds as a sign of life, and leaves a will. Run it beside a
# broker and a bridge, and watch it with `mqtt-presence watch`:
#
#     examples/device.sh [user] [device] [times]
#
# After the given number of times (default: a million) the device logs out. Ctrl-C or kill -9 stands for a power
# cut: the broker publishes the will. The variables HOST, PORT and PASSWORD set the broker and the password, and
# EVERY the seconds between messages. VERB=activity sends heartbeats: a device that stops sending them becomes idle
# after a minute.
set -eu

user=${1:-lamp}
device=${2:-esp1}
times=${3:-1000000}
every=${EVERY:-20}
verb=${VERB:-login}
topic=presence/$user/$device

# The client id is the third level of the topic: brokers with access rules let a client write only there.
publish() {
    mosquitto_pub -h "${HOST:-127.0.0.1}" -p "${PORT:-1883}" \
        -u "$user" ${PASSWORD:+-P "$PASSWORD"} -i "$device" -q 1 -n "$@"
}

# One connection. A repeated login belongs to the same connection: no new record and no event. The keep alive (-k,
# seconds) decides how soon the broker notices a lost network.
publish -t "$topic/$verb" --repeat "$times" --repeat-delay "$every" -k 30 \
    --will-topic "$topic/will" --will-qos 1

# mosquitto_pub has disconnected cleanly, so the broker publishes no will: log out explicitly.
publish -t "$topic/logout"
