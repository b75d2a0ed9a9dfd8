"""The JSON API: what the page asks of the database. It reads and changes nothing."""

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
from mqtt_presence.web.forwarded_address import address_of
from mqtt_presence.web.headers import read
from mqtt_presence.web.parameters import (
    ParameterError,
    Parameters,
    client_cursor,
    name_cursor,
    pair_cursor,
    require_user,
)
from mqtt_presence.web.responses import answer, refusal
from mqtt_presence.web.visibility import Login, Requester, Verdict, after_login, judge, takes_passwords

Authenticate = Callable[[str, str, str], Awaitable[bool]]
Resource = Callable[[Request], Awaitable[Response]]
LOGINS: Final = 4
"""Passwords that are verified at a time: each takes the processor some 30 ms, on purpose."""
_CHALLENGE = {"www-authenticate": 'Bearer realm="mqtt-presence"'}
"""Not Basic, though that is taken too: browsers would ask in a window of their own."""
_SOON = {"retry-after": "1"}


class Api:
    """The resources below ``/api``.

    Args:
        config: the server's.
        authenticate: verifies a user's password, which came from an address.
        has_mqtt_js: says whether the browser's MQTT library is there.

    """

    def __init__(
        self, config: WebConfig, authenticate: Authenticate, has_mqtt_js: Callable[[], bool]
    ) -> None:
        self._config = config
        self._authenticate = authenticate
        self._has_mqtt_js = has_mqtt_js
        self._logins = 0
        self.archive = DatabaseReader(config.database)

    def routes(self) -> list[Route]:
        """Return the resources."""
        for_operators = {
            "/api/users": self._list_users,
            "/api/users/{user}/connections": self._list_of_user,
            "/api/connections": self._list_connections,
        }
        return [
            Route("/api/config", partial(_said_plainly, self._say_config)),
            *(
                Route(path, partial(_said_plainly, partial(self._for_operators, resource)))
                for path, resource in for_operators.items()
            ),
        ]

    # The resources.

    async def _say_config(self, request: Request) -> Response:
        """Say what the page must know before anybody signs in; and whether who asks is an operator."""
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
        return answer(body)

    async def _list_users(self, request: Request) -> Response:
        given = _parameters(request, "after", "limit", "q")
        limit, after, containing = given.limit(), given.after_name("after"), given.text("q")

        def ask(reader: Reader) -> Response:
            return _users(reader.users_page(after=after, limit=limit + 1, containing=containing), limit)

        return await self.archive.ask(ask)

    async def _list_of_user(self, request: Request) -> Response:
        given = _parameters(request, "from", "to", "before", "limit")
        return await self._timeline(require_user(request.path_params["user"]), given)

    async def _list_connections(self, request: Request) -> Response:
        """List those of all users; or of one whose name no path can have: ``..``."""
        if "user" in request.query_params:
            given = _parameters(request, "user", "from", "to", "before", "limit")
            return await self._timeline(given.name("user") or "", given)
        given = _parameters(request, "open", "after", "limit", "user")
        limit = given.limit()
        if given.flag("open", default=True):
            after = given.after_client("after")
            return await self.archive.ask(
                lambda reader: _connections(
                    reader.open_page(after=after, limit=limit + 1), limit, _after_client
                )
            )
        before = given.after_pair("after")
        return await self.archive.ask(
            lambda reader: _connections(reader.ended_page(before=before, limit=limit + 1), limit, _after_end)
        )

    async def _timeline(self, user: str, given: Parameters) -> Response:
        since, until, limit = given.time("from"), given.time("to"), given.limit()
        if since is not None and until is not None and since > until:
            raise ParameterError("from must not be later than to")
        before = given.after_pair("before")

        def ask(reader: Reader) -> Response:
            found = reader.connections_page(user, since=since, until=until, before=before, limit=limit + 1)
            if not found and not reader.has_user(user):
                return refusal(404, f"there is no user {user}")
            return _connections(found, limit, _after_login)

        return await self.archive.ask(ask)

    # Who may, and what else can go wrong.

    async def _for_operators(self, resource: Resource, request: Request) -> Response:
        """Answer operators; tell everybody else why not."""
        match await self._verdict(request):
            case Verdict.UNKNOWN:
                return refusal(401, self._how(), _CHALLENGE)
            case Verdict.FORBIDDEN:
                return refusal(403, self._why_not())
            case Verdict.OPERATOR:
                return await resource(request)

    async def _verdict(self, request: Request) -> Verdict:
        client = request.client
        requester = Requester(
            peer="" if client is None else client.host,
            http_version=request.scope["http_version"],
            headers=read(request.scope),
        )
        judged = judge(self._config, requester)
        if isinstance(judged, Verdict):
            return judged
        return await self._verify(judged, address_of(self._config, requester.peer, requester.headers))

    async def _verify(self, login: Login, address: str) -> Verdict:
        if self._logins >= LOGINS:
            raise BusyError("too many logins at a time")
        self._logins += 1
        try:
            right = await self._authenticate(login.user, login.password, address)
        finally:
            self._logins -= 1
        return after_login(self._config, login, right=right)

    def _how(self) -> str:
        ways = ["the token (Authorization: Bearer …)"] * bool(self._config.token)
        ways += ["an operator's name and password (Authorization: Basic …)"] * takes_passwords(self._config)
        return f"only operators may see this: show {' or '.join(ways)}"

    def _why_not(self) -> str:
        return "only operators may see this: set web_token" + (
            ", or make the user an operator" if self._config.open is False else ", or ask from this machine"
        )


async def _said_plainly(resource: Resource, request: Request) -> Response:
    """Answer, also where that is impossible."""
    try:
        return await resource(request)
    except ParameterError as error:
        return refusal(400, str(error))
    except BusyError as error:
        return refusal(503, str(error), _SOON)
    except PresenceError:  # the archive has logged it
        return refusal(503, "the database cannot be read just now; the log says why", _SOON)


def _parameters(request: Request, *allowed: str) -> Parameters:
    return Parameters(request.query_params.multi_items(), frozenset(allowed))


# Written in the archive's thread, too: five hundred of them are some milliseconds.


def _users(found: Sequence[UserPresence], limit: int) -> Response:
    after = name_cursor(found[limit - 1].user_id) if len(found) > limit else None
    return answer({"users": [_user(user) for user in found[:limit]], "next": after})


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
    return answer({"connections": shown, "next": after})


def _after_client(row_id: int, record: Connection) -> str:
    return client_cursor(record.user_id, record.client_id, row_id)


def _after_end(row_id: int, record: Connection) -> str:
    return pair_cursor(record.logout_time or 0, row_id)


def _after_login(row_id: int, record: Connection) -> str:
    return pair_cursor(record.login_time or 0, row_id)
