"""Credentials, ephemeral keys and the registry of calls. Pure: the clock is an argument."""

import enum
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from emulator import errors
from emulator.shapes import Session

EPHEMERAL_PREFIX: Final = "ek_"
# Where calls of `Dialect.AZURE_PREVIEW` are made, on a host of the region.
PREVIEW_CALLS: Final = "/v1/realtimertc"
# How many ended calls `Calls.snapshots` still shows, and `Calls.records`.
_ENDED_CALLS_KEPT: Final = 100
_RECORDS_KEPT: Final = 10_000


class Dialect(enum.Enum):
    """Which provider's API a request speaks; the value is the path of its Realtime API."""

    OPENAI = "/v1/realtime"
    AZURE = "/openai/v1/realtime"
    # With ``?api-version=``; LiteLLM and AzureOpenAI clients use it.
    AZURE_DATED = "/openai/realtime"
    # With ``?api-version=``, and `PREVIEW_CALLS` for its calls.
    AZURE_PREVIEW = "/openai/realtimeapi"

    @property
    def is_azure(self) -> bool:
        """Whether it is one of Azure's."""
        return self is not Dialect.OPENAI

    @property
    def resource(self) -> str:
        """Who owns keys and calls: what one of Azure's current paths makes, the other knows."""
        return Dialect.AZURE.name if self is Dialect.AZURE_DATED else self.name


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request authenticates with; only its shape is known.

    Attributes:
        value: The key or token itself.
        api_key_header: True if it came as Azure's ``api-key`` header.
    """

    value: str = field(repr=False)
    api_key_header: bool = False

    @property
    def is_ephemeral(self) -> bool:
        """Whether it is shaped like an ephemeral key."""
        return self.value.startswith(EPHEMERAL_PREFIX)


def parse_credential(headers: Mapping[str, str], dialect: Dialect) -> Credential:
    """Return a request's credential: ``Authorization: Bearer``, and for Azure also ``api-key``.

    Args:
        headers: Request headers; names are matched as the mapping matches them.
        dialect: Whose API it is.

    Raises:
        ApiError: 401 without one.
    """
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return Credential(value.strip())
    if dialect.is_azure and headers.get("api-key", "").strip():
        return Credential(headers["api-key"].strip(), api_key_header=True)
    raise errors.missing_key()


def check_standard(credential: Credential) -> None:
    """Check that a credential is a long-lived one.

    Raises:
        ApiError: 401 for an ephemeral key.
    """
    if credential.is_ephemeral:
        raise errors.incorrect_key(credential.value)


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """A minted key: opens calls of one resource with one session, until it expires (Unix time)."""

    value: str = field(repr=False)
    dialect: Dialect
    session: Session
    expires_at: int


class EphemeralKeys:
    """The minted keys that have not expired."""

    def __init__(self) -> None:
        self._keys: dict[str, EphemeralKey] = {}

    def mint(self, dialect: Dialect, session: Session, *, now: int, expires_s: int) -> EphemeralKey:
        """Mint a key: ``ek_`` and 32 hex digits."""
        self._keys = {value: key for value, key in self._keys.items() if key.expires_at > now}
        key = EphemeralKey(
            EPHEMERAL_PREFIX + secrets.token_hex(16), dialect, session, now + expires_s
        )
        self._keys[key.value] = key
        return key

    def find(self, credential: Credential, dialect: Dialect, *, now: int) -> EphemeralKey:
        """Return the key that a credential is.

        Raises:
            ApiError: 401 if it was not minted here, for another resource, or has expired.
        """
        key = self._keys.get(credential.value)
        if key is None or key.dialect.resource != dialect.resource or key.expires_at <= now:
            raise errors.incorrect_key(credential.value)
        return key


class RegisteredCall(Protocol):
    """What the registry needs to know of a call."""

    @property
    def call_id(self) -> str:
        """``rtc_u0_`` and 32 hex digits."""

    @property
    def dialect(self) -> Dialect:
        """Whose API it was made with."""

    @property
    def credential(self) -> Credential:
        """What it was made with."""

    @property
    def is_live(self) -> bool:
        """Whether its peer is connected."""

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""

    def snapshot(self) -> dict[str, Any]:
        """Return its state."""

    def record(self) -> dict[str, Any]:
        """Return the part of its state that is kept for long."""


CallT = TypeVar("CallT", bound=RegisteredCall)


class Calls(Generic[CallT]):
    """Every call: those that run, and what is left of the last ones that ended."""

    def __init__(self) -> None:
        self._running: dict[str, CallT] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=_ENDED_CALLS_KEPT)
        self._records: deque[dict[str, Any]] = deque(maxlen=_RECORDS_KEPT)

    @staticmethod
    def new_id() -> str:
        """Return a fresh call id."""
        return f"rtc_u0_{secrets.token_hex(16)}"

    def add(self, call: CallT) -> None:
        """Register a call."""
        self._running[call.call_id] = call

    def end(self, call: CallT) -> None:
        """Note that a call is over; from now on it is not found."""
        if self._running.pop(call.call_id, None) is not None:
            self._ended.append(call.snapshot())
            self._records.append(call.record())

    def find_running(self, call_id: str, dialect: Dialect, credential: Credential) -> CallT:
        """Return a call that has not ended, for who may control it.

        A long-lived credential controls every call of its resource, an ephemeral key only those
        made with it.

        Raises:
            ApiError: 404 ``call_id_not_found``.
        """
        call = self._running.get(call_id)
        if call is None or call.has_ended or call.dialect.resource != dialect.resource:
            raise errors.call_not_found()
        if credential.is_ephemeral and credential.value != call.credential.value:
            raise errors.call_not_found()
        return call

    def find_live(self, call_id: str, dialect: Dialect, credential: Credential) -> CallT:
        """Return a call whose peer is connected, for who may control it.

        Raises:
            ApiError: 404 ``call_id_not_found``, also before the peer has connected.
        """
        call = self.find_running(call_id, dialect, credential)
        if not call.is_live:
            raise errors.call_not_found()
        return call

    def running(self) -> list[CallT]:
        """Return the calls that have not ended."""
        return list(self._running.values())

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the state of every call, the oldest first."""
        return [*self._ended, *(call.snapshot() for call in self._running.values())]

    def records(self) -> list[dict[str, Any]]:
        """Return what is kept of every call, the oldest first."""
        return [*self._records, *(call.record() for call in self._running.values())]
