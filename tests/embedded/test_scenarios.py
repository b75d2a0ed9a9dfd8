"""The scenarios on the embedded broker."""

import pytest

from tests.embedded.brokers import embedded_server
from tests.embedded.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_embedded_broker_passes_the_scenario(scenario):
    """The embedded broker shows the result that presence needs."""
    with embedded_server(**scenario.settings) as server:
        assert scenario.run(server) == scenario.needed
