"""Advice for the user whose URL has the port of another transport: TLS or plain, MQTT or WebSocket."""

import ssl

from mqtt_presence.mqtt.url import DEFAULT_PORTS, BrokerUrl


def port_advice(url: BrokerUrl, error: Exception | None = None) -> str:
    """Return advice to append to the message of a failed connection; empty where the port is not the reason.

    Args:
        url: the broker's URL.
        error: the error of the attempt; None if the broker closed the connection without an answer.

    """
    if error is not None:
        # A failed handshake of the WebSocket is a ConnectionError, too.
        is_foreign_answer = isinstance(error, ssl.SSLError | ConnectionError)
        if not is_foreign_answer or isinstance(error, ConnectionRefusedError | ssl.SSLCertVerificationError):
            return ""
    *others, last = [f"{scheme}://" for scheme in DEFAULT_PORTS if scheme != url.scheme]
    return f": is port {url.port} for {', '.join(others)} or {last}?"
