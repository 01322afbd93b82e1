"""What callkeeper knows of a call and of what it uses. Data only; no rules."""

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays for a call, as LiteLLM names them; ``(team_id, user_id)`` is the team's member.

    Attributes:
        key_hash: sha256 of the whole virtual key in hex.
        key_alias: The name that people know the key by.
        team_id: Id of its team.
        user_id: Id of its user.
        organization_id: Id of its organization, else of its team's.
        project_id: Id of its project.
        end_user: Whom the caller says that the call is for.
    """

    key_hash: str
    key_alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    project_id: str | None = None
    end_user: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a provider has answered.

    Attributes:
        id: Ours, random: 32 hexadecimal digits.
        deployment: Id of the deployment that answered it.
        origin: Of that deployment: ``scheme://host:port``.
        upstream_call_id: The provider's id of the call, ``rtc_...``.
        model: Name of the model group.
        payer: Who pays.
        token_id: Id of the token that it was opened with; empty if with a key.
        request_id: ``x-request-id`` of the request that opened it.
        opened_at: When the provider answered, in seconds since 1970.
        asked: The name by which the caller asked for the model, if another; else empty.
        session_lock: What its caller may not change of its session, as `ringback.sessionlock`
            reads it; empty if it may change all.
    """

    id: str
    deployment: str
    origin: str
    upstream_call_id: str
    model: str
    payer: Payer
    token_id: str
    request_id: str
    opened_at: float
    asked: str = ""
    session_lock: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What is billed, none of it negative. What came from the provider's cache is counted apart.

    Attributes:
        text_in: Text that the model read, without what was cached.
        audio_in: The same of audio.
        image_in: The same of images.
        cached_text_in: Text that the model read from the cache.
        cached_audio_in: The same of audio.
        cached_image_in: The same of images.
        text_out: Text that the model wrote.
        audio_out: Audio that the model spoke.
        seconds: Of audio, where a transcription is billed by its duration.
    """

    text_in: int = 0
    audio_in: int = 0
    image_in: int = 0
    cached_text_in: int = 0
    cached_audio_in: int = 0
    cached_image_in: int = 0
    text_out: int = 0
    audio_out: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What one event of a call has used.

    Attributes:
        id: The provider's id of the response or the item: two with the same are one.
        kind: Whether a model answered or an input was transcribed.
        model: Name of the model that is billed: the call's, or that of the transcription; empty
            where the provider did not say.
        tokens: How much.
        at: When the event came, in seconds since 1970.
    """

    id: str
    kind: Literal["response", "transcription"]
    model: str
    tokens: Tokens
    at: float


@dataclass(frozen=True, slots=True)
class Charge:
    """What one usage costs the payer of a call.

    Attributes:
        call: Whose.
        usage: What for.
        cost_microdollars: 0 or more.
    """

    call: Call
    usage: Usage
    cost_microdollars: int

    @property
    def kind(self) -> str:
        """What logs call it."""
        return "charge"

    @property
    def at(self) -> float:
        """When it was used, in seconds since 1970."""
        return self.usage.at

    @property
    def facts(self) -> dict[str, object]:
        """What the log says of one that is lost, so that it can be charged by hand."""
        return {
            "usage": self.usage.id,
            "call": self.call.id,
            "key_hash": self.call.payer.key_hash,
            "cost_microdollars": self.cost_microdollars,
        }
