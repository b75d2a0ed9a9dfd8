"""Which MQTT version comes next: only the broker's answers decide."""

import pytest

from mqtt_presence.bridge.link.mqtt_version import MqttVersion

ACCEPTED, UNSUPPORTED, REFUSED, CLOSED, UNREACHABLE = (
    "accepted",
    "unsupported",
    "refused",
    "closed",
    "unreachable",
)


def attempts(results: list[str]) -> list[int]:
    """Report these results; return the versions of all attempts, the next one too."""
    version = MqttVersion(mqtt5=True)
    tried = [5]
    for result in results:
        match result:
            case "accepted":
                if version.accepted():
                    version.begin()
            case "closed":
                version.closed()
            case "unreachable":
                version.begin()
            case _:
                version.refused(unsupported=result == UNSUPPORTED)
        tried.append(5 if version.is_mqtt5 else 3)
    return tried


@pytest.mark.parametrize(
    ("results", "versions"),
    [
        ([CLOSED, ACCEPTED, ACCEPTED], [5, 3, 5, 5]),
        ([CLOSED, CLOSED, CLOSED, ACCEPTED], [5, 3, 5, 3, 5]),
        ([CLOSED, ACCEPTED, CLOSED, ACCEPTED], [5, 3, 5, 3, 5]),
        ([CLOSED, ACCEPTED, CLOSED, UNREACHABLE], [5, 3, 5, 3, 5]),
        ([CLOSED, ACCEPTED, CLOSED, REFUSED], [5, 3, 5, 3, 5]),
        ([UNSUPPORTED, ACCEPTED, UNSUPPORTED], [5, 3, 5, 3]),
        ([UNSUPPORTED, CLOSED], [5, 3, 5]),
        ([UNSUPPORTED, UNSUPPORTED], [5, 3, 5]),
        ([REFUSED, UNREACHABLE, REFUSED], [5, 5, 5, 5]),
        ([ACCEPTED, CLOSED, CLOSED, ACCEPTED], [5, 5, 5, 5, 5]),
        ([ACCEPTED, UNSUPPORTED], [5, 5, 3]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_next_attempt(results: list[str], versions: list[int]) -> None:
    """Each series begins with MQTT 5; a close leads to 3.1.1 for one connection at most."""
    assert attempts(results) == versions


def test_broker_known_to_speak_3_1_1_is_never_asked_for_mqtt_5() -> None:
    """Nor does a closed connection lead to another attempt at once."""
    version = MqttVersion(mqtt5=False)
    assert not version.is_mqtt5
    assert not version.closed()
    assert not version.is_mqtt5
    assert version.accepted()
    assert not version.is_fallback
