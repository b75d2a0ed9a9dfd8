"""A private certificate authority with certificates for a broker and its clients; imports ``cryptography``.

Keys are on the curve P-256: small devices support it, and it is fast when thousands of clients reconnect.
"""

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_DAYS = 825
"""The longest validity of a server certificate that Apple's systems trust, even from a private authority."""
CLIENT_DAYS = 3650
_AUTHORITY_DAYS = 3650
_CLOCKS_DIFFER = timedelta(days=1)
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class Authority:
    """A new certificate authority."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        # Unique, because clients confuse two authorities with the same name and then trust neither.
        self._name = _name(f"mqtt-presence CA {serial:x}"[:40])
        self._certificate = (
            self._begin(self._name, self._key.public_key(), _AUTHORITY_DAYS)
            .serial_number(serial)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = _pem(self._certificate, self._key)

    def server(self, hosts: tuple[str, ...]) -> Pem:
        """Make a server certificate for names and addresses, and for those of this machine."""
        names = tuple(dict.fromkeys((*hosts, *_LOCAL)))
        alternatives = x509.SubjectAlternativeName([_general_name(host) for host in names])
        return self._certify(names[0][:64], SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, user: str) -> Pem:
        """Make a client certificate for a user."""
        return self._certify(user, CLIENT_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _certify(
        self, common_name: str, days: int, use: x509.ObjectIdentifier, *more: x509.ExtensionType
    ) -> Pem:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._begin(_name(common_name), key.public_key(), days)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256()), key)

    def _begin(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .not_valid_before(self._now - _CLOCKS_DIFFER)
            .not_valid_after(self._now - _CLOCKS_DIFFER + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.rstrip("."))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pem:
    return Pem(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
