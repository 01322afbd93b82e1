"""How services are reached where sockets are not shared: TLS with certificates both ways."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ringback.addresses import parse_host_port
from ringback.peers import check_peer_pattern
from ringback.settings.sections import Section

Peer = Annotated[str, AfterValidator(check_peer_pattern)]


def _check_place(address: str) -> str:
    host, port = parse_host_port(address)
    if not host or not port:
        raise ValueError("expected host:port")
    return address


Place = Annotated[str, AfterValidator(_check_place)]


def _check_together(**given: object) -> None:
    if len({value is None for value in given.values()}) > 1:
        raise ValueError(f"expected {', '.join(given)} together, or none of them")


class ServerTlsSettings(Section):
    """What a service shows on TCP, and who may connect; Unix sockets have none of it."""

    certificate_file: Path | None = None
    """Its certificate and those between it and the authority, a PEM file."""

    key_file: Path | None = None
    """The key of the certificate, a PEM file."""

    client_ca_file: Path | None = None
    """Authorities that may vouch for peers, a PEM file."""

    allowed_peers: tuple[Peer, ...] = ()
    """SPIFFE ids, one of which a peer's certificate has to have: ``spiffe://domain/path``, letter
    by letter; ``/*`` at the end stands for whatever comes below."""

    max_connection_age_s: Annotated[float, Field(ge=1, le=86_400)] = 3600
    """After so long a peer has to connect anew, and to show a certificate that is still good."""

    @property
    def is_on(self) -> bool:
        """Whether TCP is served with TLS."""
        return self.certificate_file is not None

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        _check_together(
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            client_ca_file=self.client_ca_file,
            allowed_peers=self.allowed_peers or None,
        )
        return self


class EnvoyTlsSettings(Section):
    """What Envoy shows to the services, and whom it believes to be one.

    Takes effect where the bootstrap is made: ``ringback render envoy``. All paths are as Envoy sees
    them.
    """

    certificate_file: Path | None = None
    """Its certificate and those between it and the authority, a PEM file."""

    key_file: Path | None = None
    """The key of the certificate, a PEM file."""

    ca_file: Path | None = None
    """Authorities that may vouch for the services, a PEM file."""

    allowed_peers: tuple[Peer, ...] = ()
    """SPIFFE ids, one of which the certificate of a service has to have, as in
    `ServerTlsSettings.allowed_peers`."""

    folder: Path = Path("/etc/ringback")
    """Where the files are that ``ringback render envoy`` writes beside the bootstrap."""

    @property
    def is_on(self) -> bool:
        """Whether services are asked over TLS."""
        return self.certificate_file is not None

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        _check_together(
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            ca_file=self.ca_file,
            allowed_peers=self.allowed_peers or None,
        )
        return self


class ServiceSettings(Section):
    """How the services listen on TCP, and how Envoy finds them there."""

    extauthz: tuple[Place, ...] = ()
    """``host:port`` of each worker of extauthz, as Envoy sees it; a host name stands for all of its
    addresses. Takes effect where the bootstrap is made; empty: those of envoy/envoy.yaml."""

    sdpfilter: tuple[Place, ...] = ()
    """The same of sdpfilter."""

    tls: ServerTlsSettings = ServerTlsSettings()
    envoy: EnvoyTlsSettings = EnvoyTlsSettings()

    plaintext: bool = False
    """Serve TCP beyond loopback without TLS, because a mesh's sidecar does mTLS in front of it.
    Whatever arrives is believed."""
