"""TLS files that change: when a new context is made, and when the old one stays."""

from pathlib import Path

import pytest

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.tls_files import TlsFiles
from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make an authority with a client certificate."""
    return Authority(tmp_path / "tls")


def test_context_is_made_again_only_when_a_file_has_changed(authority: Authority) -> None:
    """A new context trusts the new authority only."""
    files = TlsFiles(**authority.client_files)
    first = files.context()
    assert files.context() is first
    authority.renew()
    second = files.context()
    assert second is not first
    assert files.context() is second
    assert [c["serialNumber"] for c in second.get_ca_certs()] != [
        c["serialNumber"] for c in first.get_ca_certs()
    ]


def test_context_is_made_again_when_a_link_leads_to_other_files(authority: Authority, tmp_path: Path) -> None:
    """Secrets that an orchestrator mounts are renewed by a link that is replaced."""
    other, link = Authority(tmp_path / "other"), tmp_path / "link"
    link.symlink_to(authority.directory)
    files = TlsFiles(ca_file=f"{link}/ca.crt", cert_file=None, key_file=None)
    first = files.context()
    (tmp_path / "new").symlink_to(other.directory)
    (tmp_path / "new").rename(link)
    assert files.context() is not first


def test_file_that_is_good_again_is_no_longer_complained_about(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Each error is logged once, and another error is logged again."""
    files, path = TlsFiles(**authority.client_files), Path(authority.path("ca.crt"))
    good = path.read_bytes()
    for _ in range(2):
        path.write_bytes(b"")
        for _ in range(3):
            files.context()
        path.write_bytes(good)
        files.context()
    assert [r.levelname for r in caplog.records if r.levelname == "WARNING"] == ["WARNING"] * 2


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_files_that_cannot_be_used_at_the_start_are_an_error(authority: Authority, name: str) -> None:
    """Without a first context there is no fallback."""
    with pytest.raises(ConfigError, match=name):
        TlsFiles(**authority.client_files | {name: "/nowhere"})
