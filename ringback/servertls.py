"""The certificates of a gRPC server: read at the start, and again when their files change."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ringback.counters import CERTIFICATE_EXPIRY, CERTIFICATE_RELOADS
from ringback.errors import StartError, why_unusable
from ringback.filewatch import MISSING_S, POLL_S, fingerprint, watch
from ringback.logs import get_logger
from ringback.settings.services import ServerTlsSettings

_NO_CERTIFICATE: Final = "has no certificate in PEM"


class CertificateError(StartError):
    """Certificates that cannot be used.

    Args:
        problems: One line each: the setting's name, the file, and what is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files hold, all of it in PEM.

    Attributes:
        chain: The certificate, and those between it and its authority.
        key: Of the certificate.
        authorities: Who may vouch for others.
        expires: When the certificate ends.
    """

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    expires: datetime

    def for_server(self) -> grpc.ServerCertificateConfiguration:
        """Return them for those who are asked."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authorities)

    def for_client(self) -> grpc.ChannelCredentials:
        """Return them for those who ask: they show the same, and believe the same authorities."""
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.chain)


class ServerTls:
    """Watches the files of ``services.tls``.

    Connections that are made after a change get the new certificate, and are checked by the new
    authorities; older ones go on. Files that cannot be used are refused with their reasons, and
    what was read before stays in force.

    Args:
        settings: With files, all of them.
        poll_s: Time between two looks.
        missing_s: How long a file may be away before that counts as a change.

    Raises:
        CertificateError: If a file cannot be used.
    """

    def __init__(
        self, settings: ServerTlsSettings, *, poll_s: float = POLL_S, missing_s: float = MISSING_S
    ) -> None:
        self._settings = settings
        self._poll_s = poll_s
        self._missing_s = missing_s
        # Before they are read: a change in between is then taken up, and not lost.
        self._known = fingerprint(certificate_files(settings).values())
        read = read_certificates(settings)
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        self._watching: asyncio.Task[None] | None = None
        self._log = get_logger()
        self._show(read)
        self.credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            read.for_server(),
            self._take_fresh,  # type: ignore[arg-type]  # its stub forgets None: as before
            require_client_authentication=True,
        )
        """For the server. A peer without a certificate of the authorities is not connected to."""

    def start(self) -> None:
        """Begin to watch."""
        watching = watch(
            self._known,
            lambda: self._known,
            self._take_up,
            poll_s=self._poll_s,
            missing_s=self._missing_s,
        )
        self._watching = asyncio.create_task(watching)

    async def stop(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def _take_fresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what has changed since the last handshake; gRPC asks before each, in a thread."""
        fresh, self._fresh = self._fresh, None
        return fresh

    async def _take_up(self) -> None:
        try:
            read = await asyncio.to_thread(read_certificates, self._settings)
        except CertificateError as error:
            CERTIFICATE_RELOADS.labels("refused").inc()
            self._log.error("certificates_refused", problems=error.problems)
            return
        self._fresh = read.for_server()
        self._show(read)
        CERTIFICATE_RELOADS.labels("taken_up").inc()
        self._log.info("certificates_changed", expires=read.expires.isoformat())

    def _show(self, read: Certificates) -> None:
        CERTIFICATE_EXPIRY.labels("services").set(read.expires.timestamp())


def read_certificates(settings: ServerTlsSettings) -> Certificates:
    """Read all files and check that they belong together.

    Raises:
        CertificateError: If a file cannot be used; lists all of them.
    """
    problems: list[str] = []
    content: dict[str, bytes] = {}
    for name, file in certificate_files(settings).items():
        try:
            content[name] = file.read_bytes()
        except OSError as error:
            problems.append(_problem(name, file, f"cannot be read: {why_unusable(error)}"))
    if problems:
        raise CertificateError(problems)
    (chain, key, authorities), files = content.values(), certificate_files(settings)
    certificate = _first_certificate(chain)
    if certificate is None:
        problems.append(_problem("certificate_file", files["certificate_file"], _NO_CERTIFICATE))
    elif not _is_key_of(certificate, key):
        said = "is not the key of certificate_file, unencrypted and in PEM"
        problems.append(_problem("key_file", files["key_file"], said))
    if _first_certificate(authorities) is None:
        problems.append(_problem("client_ca_file", files["client_ca_file"], _NO_CERTIFICATE))
    if problems or certificate is None:
        raise CertificateError(problems)
    return Certificates(chain, key, authorities, certificate.not_valid_after_utc)


def certificate_files(settings: ServerTlsSettings) -> dict[str, Path]:
    """Return the files of the settings by their names."""
    files = {
        name: getattr(settings, name) for name in ("certificate_file", "key_file", "client_ca_file")
    }
    return {name: file for name, file in files.items() if file is not None}


def _problem(name: str, file: Path, words: str) -> str:
    return f"services.tls.{name}: {file}: {words}"


def _first_certificate(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        return None


def _is_key_of(certificate: x509.Certificate, pem: bytes) -> bool:
    try:
        key = load_pem_private_key(pem, None)
        return bool(key.public_key() == certificate.public_key())
    except (ValueError, TypeError):
        return False
