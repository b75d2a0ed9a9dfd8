"""The settings that the page needs before a sign-in, and the requester's rights."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from mqtt_presence import __version__
from mqtt_presence.web.api import documents
from mqtt_presence.web.api.services import ServicesOf
from mqtt_presence.web.config import MQTT_PATH
from mqtt_presence.web.responses import json_answer
from mqtt_presence.web.visibility import AccessDecision, takes_passwords

router = APIRouter(tags=["page"])


class PageConfig(msgspec.Struct, rename="camel"):
    """The settings that the page needs."""

    mqtt_url: str
    """Relative to the page, or `ws[s]://…`."""
    open: bool | None
    """Whether the broker asks for no password; null if unknown."""
    prefix: str
    operator: bool
    """Whether the requester is an operator."""
    scope: str | None
    """The requester's scope: `operator`, `status`, or null."""
    operator_by: list[str]
    """The credentials of operators: `token`, `password`."""
    private: bool
    version: str
    mqtt_js: bool
    """Whether MQTT.js is installed."""
    mqtt_port: int | None
    """The embedded broker's TCP port; null beside another broker."""


@router.get("/config", **documents.json_answer(PageConfig, is_public=True))
async def get_config(request: Request, services: ServicesOf) -> Response:
    """Return the settings that the page needs, for every visitor."""
    config = services.config
    verdict = await services.access.verdict(request)
    scope = verdict.value if verdict in {AccessDecision.OPERATOR, AccessDecision.STATUS} else None
    return json_answer(
        PageConfig(
            mqtt_url=MQTT_PATH if config.mqtt_url is None else config.mqtt_url,
            open=config.open,
            prefix=config.prefix,
            operator=verdict is AccessDecision.OPERATOR,
            scope=scope,
            operator_by=["token"] * any(t.is_operator for t in config.tokens)
            + ["password"] * takes_passwords(config),
            private=config.publish_private,
            version=__version__,
            mqtt_js=services.has_mqtt_js(),
            mqtt_port=config.mqtt_port,
        )
    )
