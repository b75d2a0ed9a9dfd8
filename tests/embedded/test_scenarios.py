"""Each repair on our broker: the scenarios show what presence needs."""

import pytest

from tests.embedded.brokers import embedded_server
from tests.embedded.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_embedded_broker_does_what_presence_needs(scenario):
    """What amqtt gets wrong is right on the embedded broker."""
    with embedded_server(**scenario.settings) as server:
        assert scenario.run(server) == scenario.needed
