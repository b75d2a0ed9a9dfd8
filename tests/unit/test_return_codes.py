"""The texts of refusals (mqtt_presence/mqtt/return_codes.py), compared with paho's table of codes."""

import pytest
from paho.mqtt.client import convert_connack_rc_to_reason_code

from mqtt_presence.mqtt.return_codes import Refusal, connack_words, connack_words_311


@pytest.mark.parametrize("refusal", Refusal)
def test_both_versions_name_a_refusal_alike(refusal: Refusal) -> None:
    """A return code of MQTT 3.1.1 has the text of the reason code that paho translates it to."""
    words = connack_words_311(refusal)
    assert words == connack_words(convert_connack_rc_to_reason_code(refusal).value)
    assert "code" not in words


def test_unknown_codes_are_named_by_number() -> None:
    """A code without a text is shown as in the specification."""
    assert connack_words(0x9F) == "reason code 0x9f"
    assert connack_words_311(6) == "return code 6"
