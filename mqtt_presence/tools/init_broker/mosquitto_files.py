"""The files of a mosquitto for mqtt-presence: the shipped files, adapted to a plan, and new secrets."""

import json
import re
from pathlib import Path

from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import local_address
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.init_broker.file_plan import File, FilePlan, Tls
from mqtt_presence.tools.init_broker.mosquitto_hashes import mosquitto_hash, new_password
from mqtt_presence.tools.shipped_files import blocks, join, replace_lines, shipped

CONFIG = "mosquitto.conf"
BRIDGE = "bridge.toml"
PASSWORDS = "passwords.txt"
DATA = "data"
CA = "tls/ca.crt"

_BROKER = "mosquitto"
_ACCESS = re.compile(r"^((?:topic|pattern) (?:read|write|readwrite) )(?!\$)", re.MULTILINE)
_OPERATOR = "user operator"
_RUN_AS = "#user mosquitto"
_MQTT, _WS = "listener 1883 127.0.0.1", "listener 9001 127.0.0.1"
_IPV4_ONLY = "socket_domain ipv4"
_MQTTS, _WSS = "#listener 8883", "#listener 8884"
_CERTS = "/etc/mosquitto/certs"
_OF_CLIENT_CERTIFICATES = ("#cafile ", "#require_certificate ", "#use_identity_as_username ")


def files(plan: FilePlan) -> list[File]:
    """Make all files of a plan, with new passwords.

    Raises:
        ConfigError: the package for certificates is not installed.

    """
    secrets = {name: new_password() for name in (BRIDGE_USER, *plan.users_and_operators)}
    hashed = "".join(f"{name}:{mosquitto_hash(secret)}\n" for name, secret in secrets.items())
    made = [
        File(CONFIG, _configuration(plan).encode(), secret=False),
        File("acl", _rights(plan).encode(), secret=True, of_broker=True),
        File("passwd", hashed.encode(), secret=True, of_broker=True),
        File(PASSWORDS, _password_list(plan, secrets).encode(), secret=True),
        File(BRIDGE, _bridge(plan, secrets[BRIDGE_USER]).encode(), secret=True),
    ]
    return made if plan.tls is None else made + _certificates(plan, plan.tls)


def _configuration(plan: FilePlan) -> str:
    directory = plan.directory
    parts = [
        part for block in blocks(shipped(_BROKER, CONFIG)) if (part := _listener(plan, block)) is not None
    ]
    lines: dict[str, str | None] = {
        "password_file /etc/mosquitto/passwd": f"password_file {directory / 'passwd'}",
        "acl_file /etc/mosquitto/acl": f"acl_file {directory / 'acl'}",
        "persistence_location /var/lib/mosquitto/": f"persistence_location {directory / DATA}/",
        _MQTT: _listen(plan.port, plan.address),
    }
    if plan.run_as is not None:
        lines[_RUN_AS] = f"user {plan.run_as}"
    return replace_lines(join(parts), lines)


def _listener(plan: FilePlan, block: str) -> str | None:
    """Adapt the block of an optional listener; None removes it. Other blocks stay unchanged."""
    lines = block.splitlines()
    tls = plan.tls
    if _WS in lines:
        if plan.ws_port is None:
            return None
        lines_of_address: dict[str, str | None] = {_WS: _listen(plan.ws_port, plan.address)}
        if not plan.is_ipv4:
            lines_of_address[_IPV4_ONLY] = None
        return replace_lines(block, lines_of_address)
    if tls is not None and _MQTTS in lines:
        return _tls_listener(plan, tls, replace_lines(block, {_MQTTS: _listen(tls.port)}))
    if tls is not None and _WSS in lines:
        if tls.ws_port is None:
            return None
        return _tls_listener(plan, tls, replace_lines(block, {_WSS: _listen(tls.ws_port)}))
    return block


def _listen(port: int, address: str = "") -> str:
    return f"listener {port} {address}".rstrip()


def _tls_listener(plan: FilePlan, tls: Tls, block: str) -> str:
    """Uncomment the settings; the # of a comment has a blank behind it."""
    out = []
    for line in block.splitlines():
        is_setting = line.startswith("#") and not line.startswith("# ")
        wanted = tls.client_certificates or not line.startswith(_OF_CLIENT_CERTIFICATES)
        changed = line[1:] if is_setting and wanted else line
        out.append(changed.replace(_CERTS, str(plan.directory / "tls")))
    return "\n".join(out)


def _rights(plan: FilePlan) -> str:
    parts = []
    for block in blocks(_ACCESS.sub(lambda found: found[1] + plan.prefix, shipped(_BROKER, "acl"))):
        if _OPERATOR not in block.splitlines():
            parts.append(block)
            continue
        parts += [replace_lines(block, {_OPERATOR: f"user {operator}"}) for operator in plan.operators]
    return join(parts)


def _password_list(plan: FilePlan, secrets: dict[str, str]) -> str:
    lines = [
        "# The passwords of the users, one a line: the name up to the last blank, the password behind it."
    ]
    if plan.tls is not None and plan.tls.client_certificates:
        lines.append(
            "# They count on the listeners without TLS; with TLS it is the certificates in tls/ that count."
        )
    return "\n".join([*lines, *(f"{name} {secrets[name]}" for name in plan.users_and_operators)]) + "\n"


def _bridge(plan: FilePlan, password: str) -> str:
    tls = plan.tls
    settings = {}
    if tls is None:
        url = BrokerUrl("mqtt", local_address(plan.address), plan.port, username=BRIDGE_USER)
    else:
        url = BrokerUrl("mqtts", "localhost", tls.port, username=BRIDGE_USER)
        settings["ca_file"] = str(plan.directory / CA)
    if tls is not None and tls.client_certificates:
        settings["cert_file"] = str(plan.directory / _client_file(BRIDGE_USER, "crt"))
        settings["key_file"] = str(plan.directory / _client_file(BRIDGE_USER, "key"))
        broker = str(url)
    else:
        broker = str(url).replace("@", f":{password}@", 1)
    settings = {"broker": broker} | settings | {"database": f"sqlite:///{plan.directory / 'presence.db'}"}
    if plan.prefix:
        settings["prefix"] = plan.prefix
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    return "\n".join(["# The settings of mqtt-presence run --config FILE.", *lines]) + "\n"


def _certificates(plan: FilePlan, tls: Tls) -> list[File]:
    try:
        from mqtt_presence.tools.init_broker.certificates import Authority  # noqa: PLC0415, an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tls: {error.name} is not installed, which makes the certificates: "
            "pip install 'mqtt-presence-bridge[certificates]'"
        ) from None
    authority = Authority()
    server = authority.server(tls.hosts)
    made = [
        File(CA, authority.pem.certificate, secret=False),
        File("tls/ca.key", authority.pem.key, secret=True),
        File("tls/server.crt", server.certificate, secret=False),
        File("tls/server.key", server.key, secret=True, of_broker=True),
    ]
    if tls.client_certificates:
        for user in (BRIDGE_USER, *plan.users_and_operators):
            client = authority.client(user)
            made.append(File(_client_file(user, "crt"), client.certificate, secret=False))
            made.append(File(_client_file(user, "key"), client.key, secret=True))
    return made


def _client_file(user: str, kind: str) -> str:
    return str(Path("tls/clients") / f"{user}.{kind}")  # a user's name has no slash
