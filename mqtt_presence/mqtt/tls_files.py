"""A client's TLS context from its PEM files, replaced after a renewal of the files."""

import logging
import ssl
from pathlib import Path

from mqtt_presence.errors import ConfigError

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]


class TlsFiles:
    """Provides the TLS context of each new connection.

    Args:
        ca_file: PEM file of the trusted authorities; None: those of the system.
        cert_file: PEM file of the client's certificate; None: the client has none.
        key_file: PEM file of the certificate's key; None: the key is in `cert_file`.

    Raises:
        ConfigError: a file cannot be used; the message names the setting.

    """

    def __init__(self, ca_file: str | None, cert_file: str | None, key_file: str | None) -> None:
        self._ca_file = ca_file
        self._cert_file = cert_file
        self._key_file = key_file
        # The stamps are older than the contents, so a change in between is detected at the next connection.
        self._stamps = self._read_stamps()
        self._context = self._make_context()
        self._last_error: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Files that cannot be used, e.g. half-written ones, do not change the context; the error is logged
        once.
        """
        stamps = self._read_stamps()
        if stamps == self._stamps:
            self._last_error = None
            return self._context
        try:
            # A prompt for a passphrase would stop a service.
            self._context = self._make_context(passphrase="")
        except ConfigError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                _log.warning("%s; going on with the files as they were before", error)
        else:
            self._last_error = None
            self._stamps = stamps
            _log.info("read the changed TLS files: %s", ", ".join(self._paths()))
        return self._context

    def _make_context(self, passphrase: str | None = None) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"ca_file={self._ca_file!r} cannot be used: {error}") from error
        # Python 3.13 refuses authorities without a key usage, as `openssl req -x509` creates them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._cert_file is not None:
            try:
                context.load_cert_chain(
                    self._cert_file, self._key_file, None if passphrase is None else lambda: passphrase
                )
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"cert_file={self._cert_file!r}, key_file={self._key_file!r} cannot be used: {error}"
                ) from error
        return context

    def _paths(self) -> list[str]:
        ca_file = self._ca_file or ssl.get_default_verify_paths().cafile
        return [path for path in (ca_file, self._cert_file, self._key_file) if path is not None]

    def _read_stamps(self) -> list[_Stamp | None]:
        return [_stamp(path) for path in self._paths()]


def _stamp(path: str) -> _Stamp | None:
    """Return values that differ after each change of a file; None if the file does not exist."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
