#!/bin/sh
# Users and their rights for mqtt-presence on RabbitMQ. Reads "name password" lines from standard input, so that no
# password is on a command line:   users.sh < passwords
# "bridge" is the bridge, who is named in OPERATORS (names with blanks between them) may read events as well.
# Client ids must begin with the user's name and a dash, alice-phone: a session is a queue of that name, and so nobody
# can open another user's. RABBITMQCTL names another rabbitmqctl.
#
# RabbitMQ puts the client id into the topic permission as it is until 4.2: there an id like "x|.*" would open
# everything. So the rights below know the user and not the client; on 4.3 and later set ESCAPES_IDS=yes.
set -eu
ctl=${RABBITMQCTL:-rabbitmqctl}
operators=" ${OPERATORS:-operator} "
verbs='(login|activity|logout|will|time)'

# It has everybody's well-known password.
$ctl -q delete_user guest </dev/null 2>/dev/null || true

while read -r name password; do
  case $name in
    '' | '#'*) continue ;;
    *[!A-Za-z0-9_]*) echo "$name: only letters, digits and _, for it stands in regular expressions" >&2; exit 2 ;;
  esac
  # From standard input, and again where the user is there already.
  printf '%s\n' "$password" | $ctl -q add_user "$name" 2>/dev/null \
    || printf '%s\n' "$password" | $ctl -q change_password "$name"

  # Topics have dots in here. Sessions and wills are queues of the client's id; amq.default is for will delays (4.x).
  queues="mqtt-(subscription-|will-)$name-.*"
  $ctl -q set_permissions -p / "$name" "^$queues\$" "^(amq\\.topic|amq\\.default|$queues)\$" "^(amq\\.topic|$queues)\$" </dev/null
  if [ "$name" = bridge ]; then
    write='^(status\.[^.]+|events\.[^.]+\.[^.]+|bridge\.[^.]+|reply\.[^.]+\.[^.]+\.[^.]+)$'
    # $SYS is empty here. But the bridge asks for it where there is MQTT 5, and a refusal would close its connection.
    read='^(presence\.\*\.\*\.\*|status\.[^.]+|bridge\.[^.]+|\$SYS\..+)$'
  else
    client='[^.]+'
    [ "${ESCAPES_IDS:-no}" = yes ] && client='{client_id}'
    write="^presence\\.$name\\.$client\\.$verbs\$"
    read="status(\\.[^.]+)?|bridge(\\.[^.]+)?|reply\\.$name\\.$client\\.[^.]+"
    case $operators in *" $name "*) read="$read|events\\.[^.]+\\.[^.]+" ;; esac
    read="^($read)\$"
  fi
  $ctl -q set_topic_permissions -p / "$name" amq.topic "$write" "$read" </dev/null
done
