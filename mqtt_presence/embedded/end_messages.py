"""Messages at the end of a client's network connection: its will, and the end of its record."""

from contextlib import suppress

from mqtt_presence.embedded.deliveries import Message, new_message
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.sessions import Session
from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol.client_messages import encode_end
from mqtt_presence.protocol.incoming import connection_id_of
from mqtt_presence.protocol.topics import ACTIVITY, LOGIN, LOGOUT, WILL


class EndMessages:
    """Publishes the messages at the end of one network connection.

    Every record gets an end, also if the client has no will or one that ends no record. The broker's message
    has the connection id of the login, so it ends no later connection. Without an id it ends the client's
    open record (rule E2). A later record is safe then too: the message is in the bridge's queue before the
    client's next CONNECT is answered.

    Args:
        router: receives the messages.
        will: of the CONNECT.

    """

    __slots__ = ("_connection_id", "_has_record", "_router", "_will")

    def __init__(self, router: Router, will: Message | None) -> None:
        self._router = router
        self._will = will
        self._has_record = False
        self._connection_id: str | None = None

    def note(self, message: Message) -> None:
        """Record whether a message of the client opens a record, and its connection id (rules L1, A2)."""
        verb = message.levels[-1]
        if verb not in (LOGIN, ACTIVITY):
            return
        with suppress(PayloadError):  # the bridge refuses such a message, and opens no record
            connection_id = connection_id_of(message.payload)
            if verb == LOGIN or not self._has_record:
                self._connection_id = connection_id
            self._has_record = True

    def publish(self, session: Session, *, is_lost: bool) -> None:
        """Publish the will of a lost connection, and the end of its record unless the will is that end.

        Args:
            session: of the client.
            is_lost: the connection ended without a DISCONNECT.

        """
        if is_lost and self._will is not None:
            if session.bridge and self._will.retain:
                self._router.retained.keep(self._will)
            elif not session.bridge:
                self._will.qos = 1  # at QoS 0 an absent bridge would miss it, and the user would stay online
                if self._will.retain and not self._will.topic.startswith(self._router.topics.presence):
                    self._router.keep_of_device(self._will)
            self._router.route(self._will)
        if self._has_record and not (is_lost and self._will_ends_record()):
            verb = WILL if is_lost else LOGOUT
            topic = self._router.topics.input(session.user, session.client_id, verb)
            payload = b"" if self._connection_id is None else encode_end(self._connection_id)
            self._router.route(new_message(topic, payload, 1))

    def _will_ends_record(self) -> bool:
        """Return whether the will ends the record of this connection (rules E1, E2)."""
        if self._will is None or self._will.levels[-1] not in (WILL, LOGOUT):
            return False
        try:
            return connection_id_of(self._will.payload) in (None, self._connection_id)
        except PayloadError:
            return False
