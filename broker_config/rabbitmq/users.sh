#!/bin/sh
# Users and their rights for mqtt-presence on RabbitMQ. Reads "name password" lines from standard input, so that no
# password is on a command line:   users.sh < passwords
# The user "bridge" is the bridge. The users in OPERATORS (separated by blanks) may also read events.
# Client ids must begin with the user's name and a dash, alice-phone: a session is a queue of that name, and no
# user can open another user's queue. RABBITMQCTL names another rabbitmqctl.
#
# RabbitMQ puts the client id into the topic permission as it is until 4.2: there an id like "x|.*" would match
# every topic. So the rights below include the user but not the client; on 4.3 and later set ESCAPES_IDS=yes.
set -eu
ctl=${RABBITMQCTL:-rabbitmqctl}
operators=" ${OPERATORS:-operator} "
verbs='(login|activity|logout|will|time)'

# Its password is well known.
$ctl -q delete_user guest </dev/null 2>/dev/null || true

while read -r name password; do
  case $name in
    '' | '#'*) continue ;;
    *[!A-Za-z0-9_]*) echo "$name: only letters, digits and _, for it stands in regular expressions" >&2; exit 2 ;;
  esac
  # The password goes through standard input; the second command changes that of an existing user.
  printf '%s\n' "$password" | $ctl -q add_user "$name" 2>/dev/null \
    || printf '%s\n' "$password" | $ctl -q change_password "$name"

  # Topics have dots in here. Sessions and wills are queues of the client's id; amq.default is for will delays (4.x).
  queues="mqtt-(subscription-|will-)$name-.*"
  $ctl -q set_permissions -p / "$name" "^$queues\$" "^(amq\\.topic|amq\\.default|$queues)\$" "^(amq\\.topic|$queues)\$" </dev/null
  if [ "$name" = bridge ]; then
    write='^(status\.[^.]+|events\.[^.]+\.[^.]+|bridge\.[^.]+|reply\.[^.]+\.[^.]+\.[^.]+)$'
    # Only with the bridge's setting "homeassistant".
    write="$write|^homeassistant\\.device\\.[^.]+\\.config\$"
    # $SYS is empty here. But the bridge subscribes to it in MQTT 5, and a refusal would close its connection.
    read='^(presence\.\*\.\*\.\*|status\.[^.]+|bridge\.[^.]+|\$SYS\..+)$'
  else
    client='[^.]+'
    [ "${ESCAPES_IDS:-no}" = yes ] && client='{client_id}'
    write="^presence\\.$name\\.$client\\.$verbs\$"
    read="status(\\.[^.]+)?|bridge(\\.[^.]+)?|reply\\.$name\\.$client\\.[^.]+"
    case $operators in *" $name "*) read="$read|events\\.[^.]+\\.[^.]+" ;; esac
    # Home Assistant.
    if [ "$name" = homeassistant ]; then write='^homeassistant\.status$' read="$read|homeassistant\..+"; fi
    read="^($read)\$"
  fi
  $ctl -q set_topic_permissions -p / "$name" amq.topic "$write" "$read" </dev/null
done
