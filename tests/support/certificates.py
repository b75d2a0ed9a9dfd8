"""Certificates of an authority made for the occasion, which can be renewed."""

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority, and what it certifies, in one directory.

    Args:
        directory: gets ``ca.crt``, ``server.crt``, ``client.crt`` and their keys.

    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.renew()

    def renew(self) -> None:
        """Make a new authority and new certificates; nothing of the old ones is trusted any more."""
        self._openssl("req", "-x509", *_KEY, "-days", "2", "-keyout", "ca.key", "-out", "ca.crt",
                      "-subj", "/CN=Test CA")  # fmt: skip
        for name in ("server", "client"):
            self._openssl("req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                          "-subj", f"/CN={name}")  # fmt: skip
            (self.directory / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                          "-CAcreateserial", "-days", "2", "-out", f"{name}.crt", "-extfile", "ext")  # fmt: skip

    def path(self, name: str) -> str:
        return str(self.directory / name)

    @property
    def client_files(self) -> dict[str, str]:
        """The settings of a client with a certificate."""
        return {
            "ca_file": self.path("ca.crt"),
            "cert_file": self.path("client.crt"),
            "key_file": self.path("client.key"),
        }

    def listener(self, port: int) -> str:
        """Return the lines of a mosquitto that wants a certificate of this authority."""
        return (
            f"listener {port} 127.0.0.1\ncafile {self.path('ca.crt')}\ncertfile {self.path('server.crt')}\n"
            f"keyfile {self.path('server.key')}\nrequire_certificate true\n"
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
