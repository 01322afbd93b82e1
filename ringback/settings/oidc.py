"""Callers that show a JWT of an OpenID provider instead of a virtual key."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ringback.settings.sections import Seconds, Section

# Asymmetric only: with a shared secret whoever can check a token can make one.
JwtAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Text = Annotated[str, Field(min_length=1, max_length=1024)]


class OidcSettings(Section):
    """Which JWTs are good, and what they say about their bearer."""

    issuer: Text | None = None
    """The ``iss`` of every token, letter by letter. JWTs are accepted if it is set."""

    audience: tuple[Text, ...] = ()
    """One of these must be in ``aud``."""

    jwks_url: Text | None = None
    """Where the provider publishes its keys (RFC 7517 section 5)."""

    algorithms: Annotated[tuple[JwtAlgorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    """How tokens may be signed."""

    leeway_s: Annotated[int, Field(ge=0, le=60)] = 5
    """How far the clocks of provider and gateway may be apart."""

    user_claim: Text = "sub"
    """The claim that names the user. A dot leads into an object: ``resource.user``."""

    team_claim: Text | None = None
    """The claim that names the team: text, or a list with one text. Without it there is none."""

    models_claim: Text | None = None
    """The claim that lists models: a list of texts, or one text with spaces, in the forms of a
    virtual key's list. If it is set, a token without it may use no model."""

    max_bytes: Annotated[int, Field(ge=256, le=16_384)] = 8192
    """Longer tokens are refused unread."""

    timeout_s: Annotated[float, Field(gt=0, le=10)] = 3
    """For one request for the keys."""

    refresh_s: Seconds = 300
    """How old keys may be before they are fetched again."""

    min_refresh_s: Seconds = 5
    """Between two requests for the keys, however many tokens name one that is not known."""

    stale_s: Annotated[float, Field(ge=0, le=604_800)] = 86_400
    """How long keys are used while they cannot be fetched again."""

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if len({self.issuer is None, self.jwks_url is None, not self.audience}) > 1:
            raise ValueError("expected issuer, audience and jwks_url together, or none of them")
        return self
