"""The scenarios on plain amqtt, which fails each of them; one that passes names a repair that may go."""

import pytest

from mqtt_presence.embedded import add_user
from tests.embedded.brokers import SECRET, USERS, amqtt_server
from tests.embedded.scenarios import FILE_AUTH, SCENARIOS


@pytest.fixture(scope="session")
def password_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("passwords") / "passwords"
    for user in USERS:
        add_user(path, user, SECRET if user == "bridge" else f"pw-{user}")
    return path


@pytest.mark.filterwarnings("ignore:The 'acl' option:DeprecationWarning")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_plain_amqtt_fails_the_scenario(scenario, password_file):
    """On amqtt 0.12.1 the scenario's result differs from the result that presence needs."""
    plugins = scenario.plugins
    if plugins == FILE_AUTH:
        plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(password_file)}}
    with amqtt_server(plugins) as server:
        seen = scenario.run(server)
    assert seen != scenario.needed, f"amqtt does it now: {scenario} may need no repair any more"
    if scenario.shipped is not None:
        assert seen == scenario.shipped
