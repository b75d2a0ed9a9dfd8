"""The JSON API of the page: resources below ``/api``, all of them read-only."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqtt_presence import __version__
from mqtt_presence.errors import PresenceError
from mqtt_presence.protocol.outgoing import encode_connection, encode_status
from mqtt_presence.rules.model import Connection, UserPresence
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.config import HISTORY_HOURS, MQTT_PATH, WebConfig
from mqtt_presence.web.database_reader import BusyError, DatabaseReader
from mqtt_presence.web.forwarded_address import client_address
from mqtt_presence.web.headers import headers_of
from mqtt_presence.web.parameters import (
    ParameterError,
    Parameters,
    client_cursor,
    name_cursor,
    pair_cursor,
    require_user,
)
from mqtt_presence.web.responses import json_answer, refusal
from mqtt_presence.web.visibility import Login, Requester, Verdict, after_login, judge, takes_passwords

Authenticate = Callable[[str, str, str], Awaitable[bool]]
Resource = Callable[[Request], Awaitable[Response]]
LOGINS: Final = 4
"""Passwords verified at the same time; each takes some 30 ms of the processor by design."""
_CHALLENGE = {"www-authenticate": 'Bearer realm="mqtt-presence"'}
"""Basic works, too, but to offer it would make browsers open a dialog of their own."""
_SOON = {"retry-after": "1"}


class Api:
    """The resources below ``/api``.

    Args:
        config: the configuration of the web server.
        authenticate: verifies the password of a user, given also the address of the request.
        has_mqtt_js: returns whether the MQTT library for browsers is installed.

    """

    def __init__(
        self, config: WebConfig, authenticate: Authenticate, has_mqtt_js: Callable[[], bool]
    ) -> None:
        self._config = config
        self._authenticate = authenticate
        self._has_mqtt_js = has_mqtt_js
        self._logins = 0
        self.database = DatabaseReader(config.database)

    def routes(self) -> list[Route]:
        """Return the routes of all resources."""
        for_operators = {
            "/api/users": self._list_users,
            "/api/users/{user}/connections": self._list_of_user,
            "/api/connections": self._list_connections,
        }
        return [
            Route("/api/config", partial(_with_errors_answered, self._get_config)),
            *(
                Route(path, partial(_with_errors_answered, partial(self._for_operators, resource)))
                for path, resource in for_operators.items()
            ),
        ]

    # The resources.

    async def _get_config(self, request: Request) -> Response:
        """Return the settings that the page needs before a login, and the requester's rights."""
        config = self._config
        ways = ["token"] * bool(config.token) + ["password"] * takes_passwords(config)
        body = {
            "mqttUrl": MQTT_PATH if config.mqtt_url is None else config.mqtt_url,
            "open": config.open,
            "prefix": config.prefix,
            "operator": await self._verdict(request) is Verdict.OPERATOR,
            "operatorBy": ways,
            "private": config.publish_private,
            "version": __version__,
            "mqttJs": self._has_mqtt_js(),
            "historyHours": HISTORY_HOURS,
        }
        return json_answer(body)

    async def _list_users(self, request: Request) -> Response:
        given = _parameters(request, "after", "limit", "q")
        limit, after, containing = given.limit(), given.after_name("after"), given.text("q")

        def question(reader: Reader) -> Response:
            return _users(reader.users_page(after=after, limit=limit + 1, containing=containing), limit)

        return await self.database.ask(question)

    async def _list_of_user(self, request: Request) -> Response:
        given = _parameters(request, "from", "to", "before", "limit")
        return await self._timeline(require_user(request.path_params["user"]), given)

    async def _list_connections(self, request: Request) -> Response:
        """List the connections of all users, or of a user whose name cannot be in a path, such as ``..``."""
        if "user" in request.query_params:
            given = _parameters(request, "user", "from", "to", "before", "limit")
            return await self._timeline(given.name("user") or "", given)
        given = _parameters(request, "open", "after", "limit", "user")
        limit = given.limit()
        if given.flag("open", default=True):
            after = given.after_client("after")
            return await self.database.ask(
                lambda reader: _connections(
                    reader.open_page(after=after, limit=limit + 1), limit, _after_client
                )
            )
        before = given.after_pair("after")
        return await self.database.ask(
            lambda reader: _connections(reader.ended_page(before=before, limit=limit + 1), limit, _after_end)
        )

    async def _timeline(self, user: str, given: Parameters) -> Response:
        since, until, limit = given.time("from"), given.time("to"), given.limit()
        if since is not None and until is not None and since > until:
            raise ParameterError("from must not be later than to")
        before = given.after_pair("before")

        def question(reader: Reader) -> Response:
            found = reader.connections_page(user, since=since, until=until, before=before, limit=limit + 1)
            if not found and not reader.has_user(user):
                return refusal(404, f"there is no user {user}")
            return _connections(found, limit, _after_login)

        return await self.database.ask(question)

    # Access.

    async def _for_operators(self, resource: Resource, request: Request) -> Response:
        """Answer operators with the resource, and other requesters with the reason for the refusal."""
        match await self._verdict(request):
            case Verdict.UNKNOWN:
                return refusal(401, self._how_to_sign_in(), _CHALLENGE)
            case Verdict.FORBIDDEN:
                return refusal(403, self._why_forbidden())
            case Verdict.OPERATOR:
                return await resource(request)

    async def _verdict(self, request: Request) -> Verdict:
        client = request.client
        requester = Requester(
            address="" if client is None else client.host,
            http_version=request.scope["http_version"],
            headers=headers_of(request.scope),
        )
        judged = judge(self._config, requester)
        if isinstance(judged, Verdict):
            return judged
        return await self._verify(judged, client_address(self._config, requester.address, requester.headers))

    async def _verify(self, login: Login, address: str) -> Verdict:
        if self._logins >= LOGINS:
            raise BusyError("too many logins at a time")
        self._logins += 1
        try:
            right = await self._authenticate(login.user, login.password, address)
        finally:
            self._logins -= 1
        return after_login(self._config, login, right=right)

    def _how_to_sign_in(self) -> str:
        ways = ["the token (Authorization: Bearer …)"] * bool(self._config.token)
        ways += ["an operator's name and password (Authorization: Basic …)"] * takes_passwords(self._config)
        return f"only operators may see this: send {' or '.join(ways)}"

    def _why_forbidden(self) -> str:
        return "only operators may see this: set web_token" + (
            ", or make the user an operator" if self._config.open is False else ", or ask from this machine"
        )


async def _with_errors_answered(resource: Resource, request: Request) -> Response:
    """Answer a request; an error becomes a refusal with its reason."""
    try:
        return await resource(request)
    except ParameterError as error:
        return refusal(400, str(error))
    except BusyError as error:
        return refusal(503, str(error), _SOON)
    except PresenceError:  # DatabaseReader has logged it
        return refusal(503, "the database cannot be read just now; the log says why", _SOON)


def _parameters(request: Request, *allowed: str) -> Parameters:
    return Parameters(request.query_params.multi_items(), frozenset(allowed))


# Encoding takes some milliseconds for five hundred rows, so it is done in the thread of the database.


def _users(found: Sequence[UserPresence], limit: int) -> Response:
    after = name_cursor(found[limit - 1].user_id) if len(found) > limit else None
    return json_answer({"users": [_user(user) for user in found[:limit]], "next": after})


def _user(user: UserPresence) -> msgspec.Raw:
    assert user.status is not None
    return msgspec.Raw(
        encode_status(user.user_id, user.status, version=user.version, last_seen=user.last_seen, private=True)
    )


def _connections(
    found: Sequence[tuple[int, Connection]], limit: int, cursor: Callable[[int, Connection], str]
) -> Response:
    shown = [msgspec.Raw(encode_connection(record, private=True)) for _, record in found[:limit]]
    after = cursor(*found[limit - 1]) if len(found) > limit else None
    return json_answer({"connections": shown, "next": after})


def _after_client(row_id: int, record: Connection) -> str:
    return client_cursor(record.user_id, record.client_id, row_id)


def _after_end(row_id: int, record: Connection) -> str:
    return pair_cursor(record.logout_time or 0, row_id)


def _after_login(row_id: int, record: Connection) -> str:
    return pair_cursor(record.login_time or 0, row_id)
