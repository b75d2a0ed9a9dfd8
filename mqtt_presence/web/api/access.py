"""Access to the API: who a request is from, and the two scopes that resources ask for."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request

from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.database_reader import BusyError
from mqtt_presence.web.forwarded_address import client_address
from mqtt_presence.web.headers import headers_of
from mqtt_presence.web.visibility import (
    AccessDecision,
    OperatorLogin,
    Requester,
    after_login,
    judge,
    takes_passwords,
)

Authenticate = Callable[[str, str, str], Awaitable[bool]]
LOGINS: Final = 4
"""Passwords verified at the same time; each takes some 30 ms of the processor by design."""
_CHALLENGE = {"www-authenticate": 'Bearer realm="mqtt-presence"'}
"""Basic works, too, but to offer it would make browsers open a dialog of their own."""


class AccessError(Exception):
    """The request is not from somebody who may see the resource.

    Args:
        status: the HTTP status.
        why: the reason, and the remedy.

    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.headers = _CHALLENGE if status == 401 else {}


class Access:
    """Decides who may see a resource.

    Args:
        config: the configuration of the web server.
        authenticate: verifies the password of a user, given also the address of the request.

    """

    def __init__(self, config: WebConfig, authenticate: Authenticate) -> None:
        self._config = config
        self._authenticate = authenticate
        self._logins = 0

    async def verdict(self, request: Request) -> AccessDecision:
        """Return the decision on a request.

        Raises:
            BusyError: too many passwords are being verified.

        """
        client = request.client
        requester = Requester(
            address="" if client is None else client.host,
            http_version=request.scope["http_version"],
            headers=headers_of(request.scope),
        )
        judged = judge(self._config, requester)
        if isinstance(judged, AccessDecision):
            return judged
        return await self._verify(judged, client_address(self._config, requester.address, requester.headers))

    async def require(self, request: Request, *, operator: bool) -> AccessDecision:
        """Return the decision on a request that may see the resource.

        Args:
            request: the request.
            operator: whether only operators may see it; otherwise whoever may see statuses.

        Raises:
            AccessError: it may not.
            BusyError: too many passwords are being verified.

        """
        verdict = await self.verdict(request)
        if verdict is AccessDecision.OPERATOR or (verdict is AccessDecision.STATUS and not operator):
            return verdict
        if verdict is AccessDecision.UNKNOWN:
            raise AccessError(401, self._how_to_sign_in(operator=operator))
        raise AccessError(403, self._why_forbidden())

    async def _verify(self, login: OperatorLogin, address: str) -> AccessDecision:
        if self._logins >= LOGINS:
            raise BusyError("too many logins at a time")
        self._logins += 1
        try:
            right = await self._authenticate(login.user, login.password, address)
        finally:
            self._logins -= 1
        return after_login(self._config, login, right=right)

    def _how_to_sign_in(self, *, operator: bool) -> str:
        whose = "an operator's" if operator else "a user's"
        ways = ["the token (Authorization: Bearer …)"] * bool(self._config.tokens)
        ways += [f"{whose} name and password (Authorization: Basic …)"] * takes_passwords(self._config)
        who = "operators" if operator else "known requesters"
        return f"only {who} may see this: send {' or '.join(ways)}"

    def _why_forbidden(self) -> str:
        return "only operators may see this: set web_token" + (
            ", or make the user an operator" if self._config.open is False else ", or ask from this machine"
        )
