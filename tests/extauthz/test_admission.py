from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from extauthz.access.errors import (
    AddressDeniedError,
    BudgetExceededError,
    KeyBlockedError,
    KeyExpiredError,
    ModelDeniedError,
    RouteDeniedError,
    TeamBlockedError,
    UnknownKeyError,
)
from extauthz.admission import Admission
from extauthz.decision import RequestFacts
from extauthz.deployments import Deployment
from extauthz.errors import (
    MalformedKeyError,
    MissingKeyError,
    ModelRequiredError,
    UnknownModelError,
)
from extauthz.generalsettings import GeneralSettings, parse_address
from extauthz.keys import Budget, KeyQuery, Scope, VirtualKey, hash_key
from helpers.authz import AZURE, NOW, OPENAI, Clock, configuration
from helpers.authz import CLAIMS as MADE
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims

RAW = "sk-of-the-caller"
KEY = VirtualKey(hash_key(Secret(RAW)), "web")
MINT = "/v1/realtime/client_secrets"
BLOCKED = Scope("t", blocked=True)
A = replace(OPENAI, id="a", access_groups=("grp-a",))
B = replace(OPENAI, id="b", access_groups=("grp-b",))
OF_TEAM = replace(OPENAI, id="t", team="t")
CLAIMS = replace(MADE, deployment="a", key_hash=KEY.hash)


class Known:
    """A source that knows one key, and remembers what it was asked."""

    def __init__(self, key: VirtualKey) -> None:
        self.key = key
        self.queries: list[KeyQuery] = []

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key if it is meant."""
        self.queries.append(query)
        return self.key if query.hash == self.key.hash else None


def admission(
    source: Known, general: GeneralSettings | None = None, *deployments: Any, **aliases: str
) -> Admission:
    """Return what lets callers in, with the rules and deployments of a configuration."""
    made = configuration(source, deployments=deployments or (A, B), aliases=aliases)
    made = replace(made, general=general or made.general)
    return Admission(lambda: made, Clock(), 3.0)


def shown(**headers: str) -> RequestFacts:
    """Return a request that shows a key in some header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestFacts("POST", MINT, named, address="203.0.113.7")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": f"Bearer {RAW}"}, id="authorization"),
        pytest.param({"x_litellm_api_key": RAW}, id="litellm"),
        pytest.param({"api_key": RAW}, id="azure"),
    ],
)
async def test_a_caller_is_identified(headers: dict[str, str]) -> None:
    """The source is asked for the hash of what the caller shows, with what it may remember."""
    source = Known(KEY)
    assert await admission(source).identify(shown(**headers)) == KEY
    assert source.queries == [KeyQuery(KEY.hash, Secret(RAW))]


@pytest.mark.parametrize(
    ("key", "general", "headers", "error"),
    [
        # Realistic
        pytest.param(KEY, {}, {}, MissingKeyError, id="no-key"),
        pytest.param(KEY, {}, {"authorization": RAW}, MalformedKeyError, id="no-scheme"),
        pytest.param(KEY, {}, {"api_key": "sk-x"}, UnknownKeyError, id="unknown"),
        pytest.param(
            replace(KEY, blocked=True), {}, {"api_key": RAW}, KeyBlockedError, id="blocked"
        ),
        pytest.param(
            replace(KEY, expires=datetime.fromtimestamp(NOW, UTC)),
            {},
            {"api_key": RAW},
            KeyExpiredError,
            id="expired-this-moment",
        ),
        pytest.param(
            replace(KEY, allowed_routes=("info_routes",)),
            {},
            {"api_key": RAW},
            RouteDeniedError,
            id="route",
        ),
        pytest.param(
            replace(KEY, team_scope=BLOCKED), {}, {"api_key": RAW}, TeamBlockedError, id="team"
        ),
        pytest.param(
            KEY,
            {"key_header": "x-foo"},
            {"authorization": f"Bearer {RAW}"},
            MissingKeyError,
            id="header-of-ones-own",
        ),
        # Synthetic: which comes first
        pytest.param(
            KEY,
            {"allowed_ips": frozenset({parse_address("203.0.113.8")})},
            {},
            AddressDeniedError,
            id="address-before-key",
        ),
        pytest.param(
            replace(KEY, team_scope=BLOCKED, allowed_routes=("/x",)),
            {},
            {"api_key": RAW},
            RouteDeniedError,
            id="route-before-team",
        ),
        pytest.param(
            replace(KEY, team_scope=BLOCKED, blocked=True),
            {},
            {"api_key": RAW},
            KeyBlockedError,
            id="key-before-team",
        ),
    ],
)
async def test_a_caller_is_refused(
    key: VirtualKey, general: dict[str, Any], headers: dict[str, str], error: type[ApiError]
) -> None:
    """The first rule that fails is told."""
    with pytest.raises(error):
        await admission(Known(key), GeneralSettings(**general)).identify(shown(**headers))


async def test_a_key_is_admitted() -> None:
    """It gets the group and those of its deployments that it may use."""
    admitted = await admission(Known(KEY), fast="voice").admit(
        replace(KEY, models=("fast", "grp-b")), "fast"
    )
    assert (admitted.group, admitted.deployments) == ("voice", (B,))


@pytest.mark.parametrize(
    ("key", "model", "further", "error"),
    [
        # Realistic
        pytest.param(KEY, None, (), ModelRequiredError, id="no-model"),
        pytest.param(KEY, "nope", (), UnknownModelError, id="unknown-model"),
        pytest.param(replace(KEY, models=("x",)), "voice", (), ModelDeniedError, id="denied"),
        pytest.param(
            replace(KEY, models=("voice",)), "voice", ("scribe",), ModelDeniedError, id="further"
        ),
        pytest.param(
            replace(KEY, budget=Budget(1, 1)), "voice", (), BudgetExceededError, id="budget"
        ),
        # Synthetic: which comes first
        pytest.param(
            replace(KEY, models=("x",), budget=Budget(1, 1)),
            "voice",
            (),
            ModelDeniedError,
            id="model-before-budget",
        ),
        pytest.param(
            replace(KEY, budget=Budget(1, 1)),
            "nope",
            (),
            BudgetExceededError,
            id="budget-before-unknown-model",
        ),
    ],
)
async def test_a_key_is_not_admitted(
    key: VirtualKey, model: str | None, further: tuple[str, ...], error: type[ApiError]
) -> None:
    """Every model in the request must be admitted, and money left."""
    plain = replace(OPENAI, mode=None, upstream_model="x")
    with pytest.raises(error):
        await admission(Known(key), None, plain).admit(key, model, further)


async def test_a_further_model_need_not_be_served() -> None:
    """The key has to be allowed to use it; whether it is there, the provider knows."""
    key = replace(KEY, models=("voice", "scribe"))
    assert (await admission(Known(key)).admit(key, "voice", ("scribe",))).group == "voice"


async def test_a_key_without_money_may_use_what_costs_nothing() -> None:
    """It is admitted to a free model, and told that nothing may be spent."""
    free, poor = replace(OPENAI, is_free=True), replace(KEY, budget=Budget(1, 1))
    for key, may_spend in ((KEY, True), (poor, False)):
        admitted = await admission(Known(key), None, free).admit(key, "voice")
        assert admitted.may_spend is may_spend


@pytest.mark.parametrize(
    ("scribe", "is_admitted"),
    [
        pytest.param([replace(OPENAI, id="s", model_name="scribe", is_free=True)], True, id="free"),
        pytest.param([replace(OPENAI, id="s", model_name="scribe")], False, id="costs"),
        pytest.param([], False, id="not-served"),
    ],
)
async def test_a_further_model_may_cost(scribe: list[Deployment], *, is_admitted: bool) -> None:
    """A key without money may use a free model only with further ones that are free, too."""
    free, poor = replace(OPENAI, is_free=True), replace(KEY, budget=Budget(1, 1))
    gate = admission(Known(poor), None, free, *scribe)
    if is_admitted:
        assert not (await gate.admit(poor, "voice", ("scribe",))).may_spend
    else:
        with pytest.raises(BudgetExceededError):
            await gate.admit(poor, "voice", ("scribe",))


async def test_a_token_of_a_fallback_that_costs_needs_a_budget() -> None:
    """Where a free model's fallback has minted, its deployment counts and not the model's."""
    free, poor = replace(OPENAI, id="a", is_free=True), replace(KEY, budget=Budget(1, 1))
    gate = admission(Known(poor), None, free, AZURE)
    assert await gate.readmit(CLAIMS) == poor
    with pytest.raises(BudgetExceededError):
        await gate.readmit(replace(CLAIMS, deployment="d-azure"))


async def test_a_tokens_key_is_asked_for_anew() -> None:
    """What a source remembers may be no older than the revocation time, and no secret is known."""
    source = Known(KEY)
    claims = replace(CLAIMS, team="t", user="ada")
    assert await admission(source).readmit(claims) == KEY
    assert source.queries == [KeyQuery(KEY.hash, None, "t", "ada", 3.0)]


@pytest.mark.parametrize(
    ("key", "claims"),
    [
        # Realistic
        pytest.param(replace(KEY, models=("voice",)), CLAIMS, id="by-name"),
        pytest.param(replace(KEY, models=("grp-a",)), CLAIMS, id="by-access-group"),
        pytest.param(replace(KEY, models=("fast",)), replace(CLAIMS, asked="fast"), id="alias"),
        pytest.param(
            replace(KEY, models=("voice",), aliases={"my": "voice"}),
            replace(CLAIMS, asked="my"),
            id="alias-of-the-key",
        ),
        pytest.param(
            replace(KEY, models=("x",), team="t", team_aliases={"rt": "voice"}),
            replace(CLAIMS, asked="rt"),
            id="alias-of-the-team",
        ),
        pytest.param(
            replace(KEY, allowed_routes=("/realtime/client_secrets",)), CLAIMS, id="any-route"
        ),
        # Synthetic
        pytest.param(
            replace(KEY, models=("voice",)), replace(CLAIMS, deployment="gone"), id="gone"
        ),
        pytest.param(
            replace(KEY, models=("voice",)),
            replace(CLAIMS, asked="azure"),
            id="alias-has-moved-and-the-group-is-listed",
        ),
        pytest.param(
            replace(KEY, models=("voice",)),
            replace(CLAIMS, deployment="d-azure"),
            id="minted-by-a-fallback",
        ),
    ],
)
async def test_a_token_is_good(key: VirtualKey, claims: CallClaims) -> None:
    """A token may be used if its key could mint it now."""
    aliases = {"fast": "voice", "azure": "azure-voice"}
    assert await admission(Known(key), None, A, B, AZURE, **aliases).readmit(claims) == key


@pytest.mark.parametrize(
    ("key", "claims", "error"),
    [
        # Realistic
        pytest.param(KEY, replace(CLAIMS, key_hash="cd" * 32), UnknownKeyError, id="deleted"),
        pytest.param(replace(KEY, blocked=True), CLAIMS, KeyBlockedError, id="blocked"),
        pytest.param(replace(KEY, team_scope=BLOCKED), CLAIMS, TeamBlockedError, id="team"),
        pytest.param(replace(KEY, models=("x",)), CLAIMS, ModelDeniedError, id="model"),
        pytest.param(replace(KEY, models=("grp-b",)), CLAIMS, ModelDeniedError, id="deployment"),
        pytest.param(
            replace(KEY, allowed_routes=("/chat/completions",)),
            CLAIMS,
            RouteDeniedError,
            id="routes",
        ),
        pytest.param(replace(KEY, budget=Budget(1, 1)), CLAIMS, BudgetExceededError, id="budget"),
        # Synthetic
        pytest.param(
            replace(KEY, models=("azure",)),
            replace(CLAIMS, asked="azure"),
            ModelDeniedError,
            id="alias-has-moved",
        ),
        pytest.param(
            replace(KEY, team="u"),
            replace(CLAIMS, deployment="t"),
            ModelDeniedError,
            id="deployment-of-another-team",
        ),
    ],
)
async def test_a_token_falls_with_its_key(
    key: VirtualKey, claims: CallClaims, error: type[ApiError]
) -> None:
    """What its key may not mint any more, a token may not open."""
    with pytest.raises(error):
        await admission(Known(key), None, A, B, AZURE, OF_TEAM, azure="azure-voice").readmit(claims)
