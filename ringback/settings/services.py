"""How services are reached where sockets are not shared: TLS with certificates both ways."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ringback.peers import check_peer_pattern
from ringback.settings.sections import Section

Peer = Annotated[str, AfterValidator(check_peer_pattern)]


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
        given = (
            self.certificate_file is not None,
            self.key_file is not None,
            self.client_ca_file is not None,
            bool(self.allowed_peers),
        )
        if len(set(given)) > 1:
            raise ValueError(
                "expected certificate_file, key_file, client_ca_file and allowed_peers together, "
                "or none of them"
            )
        return self


class ServiceSettings(Section):
    """How the services listen on TCP."""

    tls: ServerTlsSettings = ServerTlsSettings()

    plaintext: bool = False
    """Serve TCP beyond loopback without TLS, because a mesh's sidecar does mTLS in front of it.
    Whatever arrives is believed."""
