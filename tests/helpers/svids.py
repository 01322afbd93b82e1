"""Certificates with SPIFFE ids, as a mesh gives to its workloads (X509-SVID)."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DOMAIN: Final = "spiffe://mesh.test"
GATEWAY: Final = f"{DOMAIN}/ns/edge/sa/gateway"
SERVICES: Final = f"{DOMAIN}/ns/voice/sa/services"
_DAY: Final = timedelta(days=1)


class Authority:
    """Signs certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("authority of the tests")
        builder = _builder(name, name, self._key.public_key(), timedelta(days=30))
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
        # Authorities of one name are told apart by it (RFC 5280 section 4.2.1.1).
        named = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(named, critical=False)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    def issue(self, *names: str, lifetime: timedelta = _DAY) -> tuple[bytes, bytes]:
        """Return a new certificate and its key, both in PEM.

        Args:
            names: Host names, and URIs such as SPIFFE ids.
            lifetime: From now on; may be over.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("workload")
        builder = _builder(self._certificate.subject, subject, key.public_key(), lifetime)
        kinds = [
            x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)
            for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(kinds), critical=not names)
        named = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(named, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return (
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )


class Identity:
    """The files of one workload, in a folder, replaced at once as Kubernetes does it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions = itertools.count()
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"
        self.authorities = folder / "ca.crt"
        folder.mkdir(exist_ok=True)
        for file in (self.certificate, self.key, self.authorities):
            file.symlink_to(Path("..data") / file.name)

    def write(self, pair: tuple[bytes, bytes], *authorities: Authority) -> None:
        """Put a certificate with its key there, and the authorities that it believes."""
        version = self._folder / f"..{next(self._versions)}"
        version.mkdir()
        everything = b"".join(authority.pem for authority in authorities)
        for file, content in (
            (self.certificate, pair[0]),
            (self.key, pair[1]),
            (self.authorities, everything),
        ):
            (version / file.name).write_bytes(content)
        link = self._folder / "..new"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + lifetime
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=60))
        .not_valid_after(end)
    )
