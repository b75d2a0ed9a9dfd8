"""A client's TLS context, made from its PEM files and made again when these are renewed."""

import logging
import ssl
from pathlib import Path

from mqtt_presence.errors import ConfigError

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]


class TlsFiles:
    """Makes the TLS context of each new connection.

    Args:
        ca_file: PEM file of the authorities to trust; None: those of the system.
        cert_file: PEM file of our own certificate; None: we have none.
        key_file: PEM file of its key; None: it is in `cert_file`.

    Raises:
        ConfigError: a file cannot be used; the message names the setting.

    """

    def __init__(self, ca_file: str | None, cert_file: str | None, key_file: str | None) -> None:
        self._ca_file = ca_file
        self._cert_file = cert_file
        self._key_file = key_file
        # Known before they are read: a change in between is noticed at the next connection.
        self._stamps = self._read_stamps()
        self._context = self._make()
        self._complaint: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Files that cannot be used, half written for example, leave the context as it was and are logged once.
        """
        stamps = self._read_stamps()
        if stamps == self._stamps:
            self._complaint = None
            return self._context
        try:
            # No prompt for a passphrase: it would stop a service.
            self._context = self._make(passphrase="")
        except ConfigError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("%s; going on with the files as they were before", error)
        else:
            self._complaint = None
            self._stamps = stamps
            _log.info("read the changed TLS files: %s", ", ".join(self._paths()))
        return self._context

    def _make(self, passphrase: str | None = None) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"ca_file={self._ca_file!r} cannot be used: {error}") from error
        # Python 3.13 would refuse authorities without a key usage, as `openssl req -x509` makes them.
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
    """Return values that differ after each change of a file; None: there is no such file."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
