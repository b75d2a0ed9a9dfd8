"""Client certificates on aedes, where they are a part of the shipped program. Not part of `make test`."""

from pathlib import Path

import pytest

from mqtt_presence.tools.init_broker.certificates import Authority
from tests.brokers.rigs import AedesCertificates
from tests.support.peer import RefusedError


def test_certificate_names_the_user(tmp_path: Path) -> None:
    """The user of CONNECT does not count; none, or another authority's, is refused even with the password."""
    with AedesCertificates(tmp_path / "aedes") as rig:
        for transport in rig.transports:
            bridge = rig.peer(
                "bridge", f"b-{transport}", transport, filters=("presence/+/+/+",),
                tls=rig.context(rig.authority.client("bridge")), password=None,
            )  # fmt: skip
            assert bridge.granted == [True]
            mallory = rig.context(rig.authority.client("mallory"))
            liar = rig.peer("alice", f"m-{transport}", transport, tls=mallory, password=None)
            assert not liar.publish(f"presence/alice/m-{transport}/login", b"forged")
            honest = rig.peer("mallory", f"m2-{transport}", transport, tls=mallory, password=None)
            assert honest.publish(f"presence/mallory/m2-{transport}/login", b"x")
            bridge.wait_for(f"presence/mallory/m2-{transport}/login")
            assert [payload for _, payload, _ in bridge.heard] == [b"x"]
            for certificate in (None, Authority().client("alice")):
                with pytest.raises(RefusedError):
                    rig.peer("alice", f"a-{transport}", transport, tls=rig.context(certificate))
