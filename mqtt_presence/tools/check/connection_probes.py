"""Probes of the connection itself: versions of MQTT, WebSocket, TLS, and open ports."""

import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.addresses import is_loopback
from mqtt_presence.mqtt.listening import accepts, network_addresses
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, RefusedError
from mqtt_presence.tools.check.prober import Prober

_DAY_S = 86_400
_LOCAL_PORTS = "local-ports"
_OWN_MACHINE_S = 2.0
_SOON_DAYS = 30


def mqtt_311(prober: Prober) -> Finding:
    """Does the broker accept MQTT 3.1.1, which most devices use?"""
    name = "mqtt-3.1.1"
    try:
        prober.connections.client(mqtt5=False).disconnect()
    except (RefusedError, ClosedError) as error:
        return failed(name, str(error), "devices that speak only MQTT 3.1.1 cannot connect")
    return passed(name, "spoken")


def mqtt_5(prober: Prober) -> Finding:
    """Does the broker accept MQTT 5, which the bridge prefers?"""
    name = "mqtt-5"
    if not prober.connections.mqtt5:
        how = (
            "refused as an unsupported version"
            if prober.connections.mqtt5_refusal
            and prober.connections.mqtt5_refusal.code == UNSUPPORTED_VERSION
            else "not spoken"
        )
        return warned(
            name,
            how,
            "the bridge uses 3.1.1: the broker alone decides how many messages it sends before an "
            "acknowledgement, and it acknowledges forbidden publications like allowed ones",
        )
    facts = ", ".join(
        f"{key}={value}" for key, value in sorted(prober.connections.connack_properties.items())
    )
    return passed(name, f"spoken ({facts})" if facts else "spoken")


def websocket(prober: Prober) -> Finding:
    """Can browsers connect?"""
    name = "websocket"
    credentials = prober.config.websocket
    if credentials is None:
        if prober.config.client.url.websockets:
            return passed(name, f"the client uses it: {prober.config.client.url}")
        return note(name, "not tried: no --websocket URL; only browsers need it")
    try:
        client = prober.connections.client(credentials=credentials)
    except BrokerError as error:
        return failed(name, str(error), "browsers cannot connect")
    is_received = prober.sync(client)
    client.disconnect()
    if not is_received:
        return failed(name, "it connects, but its messages do not arrive", "the bridge does not see browsers")
    return passed(name, f"{credentials.url} connects, and its messages arrive")


def tls(prober: Prober) -> Finding:
    """Are passwords encrypted on the network?"""
    name = "tls"
    bare = [url for url in (prober.config.bridge.url, prober.config.client.url) if not url.tls]
    far = [str(url) for url in bare if not is_this_machine(url)]
    if far:
        return warned(
            name,
            f"not encrypted: {', '.join(dict.fromkeys(far))}",
            "passwords and presence cross the network in the clear",
        )
    if bare:
        return note(name, "not encrypted, but on this machine: no data crosses a network")
    client = prober.connections.client()
    facts = client.tls_facts()
    client.disconnect()
    assert facts is not None  # the URL is mqtts or wss
    return judge_certificate(*facts, now_s=time.time())


def local_ports(prober: Prober) -> Finding:
    """Are the ports for this machine alone closed to the network?"""
    config = prober.config
    accesses = (config.bridge, config.client, config.second, config.websocket)
    local = [one.url for one in accesses if one is not None and is_this_machine(one.url) and not one.url.tls]
    ports = sorted({url.port for url in local})
    if not ports:
        return note(_LOCAL_PORTS, "not tried: no URL without TLS leads to this machine")
    return judge_local_ports(
        ports,
        network_addresses(),
        lambda address, port: accepts(address, port, _OWN_MACHINE_S),
    )


def judge_local_ports(
    ports: Sequence[int], addresses: Sequence[str], is_open: Callable[[str, int], bool]
) -> Finding:
    """Judge the ports of the URLs that lead to this machine without TLS.

    Args:
        ports: at least one.
        addresses: the other addresses of this machine.
        is_open: returns whether a program accepts connections at an address and a port.

    """
    if not addresses:
        return note(_LOCAL_PORTS, "not tried: this machine has no other address")
    names = f"port {ports[0]}" if len(ports) == 1 else f"ports {', '.join(map(str, ports))}"
    found = [
        f"{port} at {', '.join(places)}"
        for port in ports
        if (places := [address for address in addresses if is_open(address, port)])
    ]
    if not found:
        return passed(_LOCAL_PORTS, f"{names}: closed at {', '.join(addresses)}")
    return warned(
        _LOCAL_PORTS,
        f"without TLS, and open to the network: {'; '.join(found)}",
        "other machines may connect, and their passwords cross the network in the clear",
    )


def judge_certificate(version: str, cipher: str, certificate: dict[str, Any], now_s: float) -> Finding:
    """Judge an encrypted connection with a valid certificate.

    Args:
        version: of TLS, e.g. ``TLSv1.3``.
        cipher: the name of the cipher.
        certificate: as `ssl.SSLSocket.getpeercert` returns it.
        now_s: epoch seconds.

    """
    names = ", ".join(value for kind, value in certificate.get("subjectAltName", ()) if kind)
    text = f"{version}, {cipher}, certificate for {names or 'no name'}"
    not_after = certificate.get("notAfter")
    if not isinstance(not_after, str):
        return passed("tls", text)
    days = int((ssl.cert_time_to_seconds(not_after) - now_s) // _DAY_S)
    text = f"{text}, valid for {days} more days"
    if days < _SOON_DAYS:
        return warned("tls", text, "clients cannot connect after its end")
    return passed("tls", text)


def is_this_machine(url: BrokerUrl) -> bool:
    """Return whether the host of a URL is a loopback name or address."""
    return is_loopback(url.host)
