"""The probe of a device profile: who may write the topics of its devices, and whether the bridge reads them.

Its messages are no availability: each profile refuses their payload, and they are not retained. So a bridge
that uses the profile records nothing.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial

from msgspec import Struct

from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.adapters.devices.profile_overlaps import passes
from mqtt_presence.adapters.devices.sparkplug import NODE_DEATHS
from mqtt_presence.adapters.devices.topic_patterns import parse_pattern
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import Sent
from mqtt_presence.tools.check.prober import Prober

_SHOWN = 3
_NAME = re.compile(r"[^A-Za-z0-9_-]")
_SHARED = (
    "whoever has such an account can show every device of this fleet as online or offline, "
    "and a retained lie stays"
)
_ONE_EACH = (
    "give each device an account of its own, and let it write its own topics alone; "
    "mosquitto, where the account has the device's name: `pattern write tele/%u/#` (docs/devices.md, Rights)"
)
_READ = "let the bridge's user read the topics of its profiles (docs/devices.md, Rights)"


class Attempt(Struct, frozen=True):
    """A message on a device's topic."""

    user: str
    topic: str
    is_own: bool
    """Whether the topic has the user's own name."""
    arrived: bool
    """Whether the bridge's user received it."""
    denied: bool
    """Whether the broker refused it."""


def probe_profile(prober: Prober, profile: Profile) -> Finding:
    """Who may write the topics of a profile's devices, and does the bridge read them?"""
    name = f"profile-{profile.name}"
    topics = list(dict.fromkeys(entry.topic for entry in profile.words.availability)) or [NODE_DEATHS]
    if profile.words.decoder != "sparkplug" and not profile.words.availability:
        topics = list(profile.words.heartbeat)
        return note(name, f"not tried: any message on {topics[0]} is a sign of life")
    filters = [pattern.topic_filter for t in topics for pattern in parse_pattern(t, profile.words.depth)]
    denied = [topic_filter for topic_filter in filters if not _subscribe(prober, topic_filter)]
    if denied:
        return failed(
            name,
            f"the bridge's user may not subscribe to {_some(denied)}",
            "the bridge sees no device",
            _READ,
        )
    return judge(name, list(_attempts(prober, profile, topics)), is_told=prober.connections.client_mqtt5)


def _subscribe(prober: Prober, topic_filter: str) -> bool:
    if not prober.is_observing():
        prober.observe()
    return prober.subscribe(prober.observer, topic_filter)


def _attempts(prober: Prober, profile: Profile, topics: Sequence[str]) -> Iterable[Attempt]:
    other = _fitting(profile, (f"check-{prober.names.run}", f"shellyplus1-{prober.names.run}"))
    for credentials in filter(None, (prober.config.client, prober.config.second)):
        user = credentials.url.username or ""
        own = _NAME.sub("-", user)
        client = prober.connections.client(credentials=credentials)
        sent: list[tuple[str, bool, bytes, Sent]] = []
        for topic in topics:
            for name in dict.fromkeys((other, own)):
                filled = _fill(topic, name)
                if name == own and filled == _fill(topic, other):
                    continue  # the topic has no name
                if client.is_over:  # some brokers answer a forbidden message so
                    client = prober.connections.client(credentials=credentials)
                payload = prober.names.unique_payload()
                answer = client.publish(filled, payload)
                prober.wait_for_answer(answer, client)
                sent.append((filled, name == own, payload, answer))
        # The account of a device may have no other right, so there is no message to wait for but these.
        wanted = [payload for _, _, payload, answer in sent if not answer.is_denied]
        prober.loop.until(partial(_have_arrived, prober, wanted), prober.quiet_s)
        client.disconnect()
        for filled, is_own, payload, answer in sent:
            arrived = bool(prober.observer.inbox.with_payload(payload))
            yield Attempt(user, filled, is_own, arrived, answer.is_denied)


def _have_arrived(prober: Prober, wanted: Sequence[bytes]) -> bool:
    return all(prober.observer.inbox.with_payload(payload) for payload in wanted)


def _fitting(profile: Profile, names: Sequence[str]) -> str:
    """Return a name that the profile accepts; the last one if there is none."""
    return next((name for name in names if passes(profile.words, {"device": name})), names[-1])


def _fill(topic: str, name: str) -> str:
    return "/".join(name if level.startswith("{") else level for level in topic.split("/"))


def judge(name: str, attempts: Sequence[Attempt], *, is_told: bool) -> Finding:
    """Judge the messages that clients could publish for devices.

    Args:
        name: of the finding.
        attempts: at least one.
        is_told: whether the broker reports a refusal, as MQTT 5 can.

    """
    others = [attempt for attempt in attempts if attempt.arrived and not attempt.is_own]
    if others:
        users = ", ".join(dict.fromkeys(attempt.user for attempt in others))
        topics = _some(list(dict.fromkeys(attempt.topic for attempt in others)))
        return warned(name, f"{users} may write {topics}, the topic of any device", _SHARED, _ONE_EACH)
    own = [attempt for attempt in attempts if attempt.arrived]
    if own:
        return passed(name, f"{own[0].user} may write {own[0].topic}, and no other device's topic")
    system = all(attempt.topic.startswith("$") for attempt in attempts)
    unread = [attempt for attempt in attempts if is_told and not attempt.denied and not system]
    if unread:
        return warned(
            name,
            f"{unread[0].topic} is accepted from {unread[0].user}, and not delivered to the bridge's user",
            "the bridge may see no device of this fleet",
            _READ,
        )
    users = " and ".join(dict.fromkeys(attempt.user for attempt in attempts))
    if system:
        return passed(name, "only the broker itself writes these topics")
    return passed(name, f"{users} may write no topic of this fleet; try the account of a device as --client")


def _some(topics: Sequence[str]) -> str:
    more = f" and {len(topics) - _SHOWN} more" if len(topics) > _SHOWN else ""
    return ", ".join(topics[:_SHOWN]) + more
