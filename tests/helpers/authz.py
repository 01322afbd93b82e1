"""What tests of extauthz are made of: deployments, sealers, settings and requests."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from extauthz.admission import Admission
from extauthz.catalogue import Catalogue
from extauthz.configuration import Configuration
from extauthz.decision import RequestFacts
from extauthz.deployments import Deployment, Origin
from extauthz.egress import Egress
from extauthz.endpoints.calls import Calls
from extauthz.endpoints.clientsecrets import ClientSecrets
from extauthz.endpoints.ready import Ready
from extauthz.endpoints.transcription import TranscriptionSessions
from extauthz.endpoints.unified import UnifiedCalls
from extauthz.entra import EntraTokens, log_in_through
from extauthz.gate import Gate
from extauthz.jsontext import parse_object, serialize_object
from extauthz.keys import KeySource, KeySources
from extauthz.mint import Minter
from extauthz.mintbody import MintRequest
from extauthz.mintrequest import MintRequests
from extauthz.providers import provider_of
from extauthz.routing import Router
from extauthz.safety import SafetyIdentifiers
from extauthz.sessions import session_for
from extauthz.tokenguard import TokenGuard
from ringback.secrets import Secret
from ringback.settings import Settings, TokenSettings
from ringback.tokens import token_sealer
from ringback.tokens.claims import CallClaims
from ringback.tokens.jwe import Sealer

# 2026-11-22 08:00:00 UTC
NOW: Final = 1_795_334_400
EPHEMERAL_KEY: Final = "ek_68af296e8e408191a1120ab6383263c2"
OPENAI: Final = Deployment(
    id="d-openai",
    model_name="voice",
    provider="openai",
    upstream_model="gpt-realtime",
    origin=Origin("https", "api.openai.com", 443),
    base_path="",
    api_key=Secret("sk-upstream-openai"),
)
AZURE: Final = replace(
    OPENAI,
    id="d-azure",
    model_name="azure-voice",
    provider="azure",
    upstream_model="my-deployment",
    origin=Origin("https", "res.openai.azure.com", 443),
    api_key=Secret("azure-upstream-key"),
    mode="realtime",
)
# What a token of `OPENAI` says.
CLAIMS: Final = CallClaims(
    jti="token-1",
    iat=NOW,
    exp=NOW + 60,
    ek=Secret(EPHEMERAL_KEY),
    deployment=OPENAI.id,
    origin=str(OPENAI.origin),
    calls_path="/v1/realtime/calls",
    auth_scheme="bearer",
    model=OPENAI.model_name,
    key_hash="a" * 64,
    session_type="realtime",
)


class Clock:
    """Stands still at `NOW` until a test sets it.

    Attributes:
        now: In seconds since the epoch.
    """

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass(frozen=True, slots=True)
class Config:
    """What a catalogue is made of."""

    deployments: tuple[Deployment, ...] = (OPENAI,)
    aliases: Mapping[str, str] = field(default_factory=dict)


def configuration(
    *keys: KeySource,
    deployments: Sequence[Deployment] = (OPENAI,),
    aliases: Mapping[str, str] | None = None,
) -> Configuration:
    """Return a configuration that was read from no file."""
    catalogue = Catalogue(Config(tuple(deployments), aliases or {}))
    return Configuration(catalogue, KeySources(*keys), None, None, {}, {})


def gate(
    current: Callable[[], Configuration], minter: Minter, sealer: Sealer, now: Callable[[], float]
) -> Gate:
    """Return a gate before all endpoints."""
    admission = Admission(current, now)
    client_secrets = ClientSecrets(admission, minter)
    return Gate(
        [
            UnifiedCalls(admission, minter),
            Calls(lambda _: current(), admission, TokenGuard(sealer, now)),
            client_secrets,
            TranscriptionSessions(client_secrets),
            Ready(),
        ]
    )


def minter(
    egress: Egress,
    sealer: Sealer,
    settings: Settings,
    now: Callable[[], float],
    *,
    router: Router | None = None,
    safety: SafetyIdentifiers | None = None,
) -> Minter:
    """Return what mints at deployments that have keys."""
    tokens = EntraTokens(log_in_through(egress), now)
    requests = MintRequests(egress, tokens, safety or SafetyIdentifiers(), settings)
    return Minter(requests, sealer, settings, now, router=router)


def upstream_body(wanted: MintRequest, deployment: Deployment = OPENAI) -> dict[str, Any]:
    """Return the body that a deployment receives for what a caller wants."""
    session = session_for(wanted, deployment, {})
    body = provider_of(deployment).mint_body(session, wanted.expires_after)
    return parse_object(serialize_object(body))


def settings(**values: Any) -> Settings:
    """Return the default settings, with some of their own."""
    return Settings(**values)


def sealer(secret: str = "0123456789abcdef") -> Sealer:  # noqa: S107
    """Return what seals and opens tokens."""
    return token_sealer(TokenSettings(secret=Secret(secret)), {})


def request(
    path: str,
    credential: str | None,
    body: bytes = b"",
    *,
    method: str = "POST",
    **headers: str,
) -> RequestFacts:
    """Return a request with a bearer credential; other headers with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if credential is not None:
        named["authorization"] = f"Bearer {credential}"
    return RequestFacts(method, path, named, body)


def write_config(path: Path, *entries: Mapping[str, Any], **sections: Any) -> None:
    """Write a LiteLLM configuration; JSON is YAML too."""
    path.write_text(json.dumps({"model_list": list(entries), **sections}))
