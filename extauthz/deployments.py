"""Deployments, one per upstream model endpoint, and the catalogue that finds them by model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from ringback.contract import cluster_name
from ringback.secrets import Secret
from ringback.sessionlock import NO_LOCK, SessionLock

ProviderName = Literal["openai", "azure"]
EntraMethod = Literal["client_secret", "workload_identity", "managed_identity", "token"]
DialectName = Literal["openai", "azure", "azure-dated", "azure-preview"]
REALTIME_MODE = "realtime"
# In a `model_name`: any name of that form; in the upstream's model: what it stood for.
WILDCARD = "*"
DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where an upstream listens; Envoy has one cluster for each.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Host name or address in lower case, IPv6 without brackets.
        port: TCP port.
    """

    scheme: str
    host: str
    port: int

    @property
    def cluster(self) -> str:
        """The name of the cluster in Envoy."""
        return cluster_name(self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """The ``Host`` header: the port is left out where it is the scheme's own (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class EntraLogin:
    """Who logs in at Entra ID for a deployment; equal ones share their tokens.

    Attributes:
        method: ``client_secret``; ``managed_identity`` of the machine; ``workload_identity`` of
            the Kubernetes pod; ``token``: one that the operator renews.
        scope: What the token is for.
        tenant_id: The directory; None where the environment says it.
        client_id: The application or user-assigned identity; None where the environment says it.
        secret: The client secret, or the token itself.
        token_file: The token that Kubernetes gives a pod; of ``workload_identity``.
        origin: Where the login service is: Entra ID, or the machine's own for managed identities.
    """

    method: EntraMethod
    scope: str
    tenant_id: str | None = None
    client_id: str | None = None
    secret: Secret | None = None
    token_file: str | None = None
    origin: Origin = Origin("https", "login.microsoftonline.com", 443)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One entry of ``model_list``: a model at an upstream, and the key that opens it.

    Attributes:
        id: ``model_info.id``, else a hash that stays the same as long as model and place do.
        model_name: The group, which is what callers name as ``model``.
        provider: Whose dialect the upstream speaks.
        upstream_model: The model's name there; at Azure the name of the deployment.
        origin: Scheme, host and port of ``api_base``.
        base_path: What stands before the provider's own paths: ``""`` or ``/a/b``.
        api_key: The upstream's standard key.
        organization: ``OpenAI-Organization`` of mint requests.
        project: ``OpenAI-Project`` of mint requests.
        extra_headers: Sent with every upstream request; lower-case names. Secrets, because
            gateways in front of a provider take their own keys here.
        timeout_s: Deadline of one upstream request, if the entry has its own.
        mode: ``model_info.mode``.
        weight: Share of the requests of its group, against the weights of the others.
        rpm: Requests per minute, a weight where no deployment of the group has a `weight`.
        tpm: Tokens per minute, a weight where there is neither.
        order: Deployments of the lowest order mint as long as one of them is healthy.
        num_retries: How many others of the group may be tried after this one failed; None: as
            many as the router's settings say.
        cooldown_s: How long it is left alone after failures, if the entry says so itself.
        access_groups: Names by which keys are given access to it: ``model_info.access_groups``.
        team: The team whose keys alone it serves; None: everybody's.
        blocked: Whether it is paused: it neither mints nor takes calls.
        is_free: Whether input and output cost nothing, by explicit zeros; budgets then do not
            count, as in LiteLLM.
        dialect: Paths and bodies that the upstream wants; None: those of `provider`
            as it documents them today.
        api_version: ``api-version`` of the dialects of Azure that have one.
        calls_origin: Where offers go if not to `origin`: the preview's regional host.
        calls_base_path: What `base_path` is, for `calls_origin`.
        webrtcfilter: Whether every call asks Azure to keep most events from the browser.
        entra: How to log in at Entra ID; None: `api_key` opens the upstream.
        session: Session fields that win over the caller's when a token is minted.
        session_defaults: Session fields for callers that do not send their own.
        session_lock: What callers cannot change of a session, also when the call is up.
        prices: In dollars for one unit, by LiteLLM's names, as they were written.
        base_model: What model it is a deployment of, by the names of price lists.
    """

    id: str
    model_name: str
    provider: ProviderName
    upstream_model: str
    origin: Origin
    base_path: str
    api_key: Secret
    organization: str | None = None
    project: str | None = None
    extra_headers: Mapping[str, Secret] = field(default_factory=dict, hash=False)
    timeout_s: float | None = None
    mode: str | None = None
    weight: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    order: float | None = None
    num_retries: int | None = None
    cooldown_s: float | None = None
    access_groups: tuple[str, ...] = ()
    team: str | None = None
    blocked: bool = False
    is_free: bool = False
    dialect: DialectName | None = None
    api_version: str | None = None
    calls_origin: Origin | None = None
    calls_base_path: str = ""
    webrtcfilter: bool = False
    entra: EntraLogin | None = None
    session: Mapping[str, Any] = field(default_factory=dict, hash=False)
    session_defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    session_lock: SessionLock = NO_LOCK
    prices: Mapping[str, str] = field(default_factory=dict, hash=False)
    base_model: str | None = None

    @property
    def origins(self) -> tuple[Origin, ...]:
        """All that this deployment needs a cluster for: to mint, to take calls, to log in."""
        login = self.entra if self.entra and self.entra.method != "token" else None
        found = (self.origin, self.calls_origin, login.origin if login else None)
        return tuple(origin for origin in found if origin is not None)

    @property
    def is_realtime(self) -> bool:
        """Whether the entry says so by its mode or by the name of its model."""
        return self.mode == REALTIME_MODE or REALTIME_MODE in self.upstream_model.lower()
