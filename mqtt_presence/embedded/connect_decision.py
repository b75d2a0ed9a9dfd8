"""The decision on a CONNECT: names, password, owner of the client id, will, and room for another client."""

import asyncio

from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.access.rights import Rights
from mqtt_presence.embedded.connect_request import ConnectRequest, Rejection, reject_names
from mqtt_presence.embedded.router import Router
from mqtt_presence.mqtt.return_codes import Refusal

LAST_PACKETS_TURNS = 4
"""Turns of the event loop in which a replaced connection's last bytes are read."""


async def reject_connect(
    router: Router, request: ConnectRequest, client_id: str, address: str, rights: Rights
) -> Rejection | None:
    """Return the reason why a client is not accepted; None if it is.

    Between the return and the start of the session the caller must not wait, so that no other CONNECT with
    the same client id can intervene.

    Args:
        router: of the broker.
        request: the CONNECT.
        client_id: the client id, chosen by the broker if the client gave none.
        address: of the client.
        rights: of the client.

    """
    rejection = reject_names(request, client_id)
    if rejection is None:
        rejection = await router.admission.authenticate(request.user, request.password, address)
    if rejection is None:
        await _drain_old_connection(router, client_id)
        rejection = _reject_session(router, request, client_id, rights)
    return rejection


async def _drain_old_connection(router: Router, client_id: str) -> None:
    """Read the last bytes of the connection to be taken over: the client sent them before this CONNECT."""
    old = router.sessions.get(client_id)
    if old is not None and old.connection is not None:
        for _ in range(LAST_PACKETS_TURNS):
            await asyncio.sleep(0)


def _reject_session(
    router: Router, request: ConnectRequest, client_id: str, rights: Rights
) -> Rejection | None:
    old = router.sessions.get(client_id)
    if router.is_closing:
        return Rejection(Refusal.UNAVAILABLE, "the broker is stopping")
    if old is not None and old.user != request.user:
        return Rejection(Refusal.IDENTIFIER, "the client id belongs to user=%s", (quoted(old.user),))
    if request.will is not None and not rights.may_publish(request.will.levels):
        topic = quoted(request.will.topic)
        return Rejection(Refusal.NOT_AUTHORIZED, "no right to a will on topic=%s", (topic,))
    if old is None or old.connection is None:  # a takeover adds no client
        return router.admission.reject_crowd(request.user)
    return None
