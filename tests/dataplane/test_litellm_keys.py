"""LiteLLM's rules, one by one, through the real Envoy, with keys from LiteLLM's real tables."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from helpers.budgetcases import BUDGET_CASES, LIMIT_CASES, TOKEN_CASES
from helpers.expect import check_refusal
from helpers.gateway import JSON_TYPE, Gateway
from helpers.gatewayfiles import MASTER_KEY, OPENAI_KEY, Files
from helpers.http11 import Message
from helpers.identitycases import IDENTITY_CASES
from helpers.modelcases import MODEL_CASES
from helpers.postgres import PASSWORD, Database, PostgresServer
from helpers.recording import CALLS, CLIENT_SECRETS, RecordingUpstream
from helpers.rulecases import CUSTOM_HEADER, Case, Refusal, TokenCase
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

CASES: Final = [*IDENTITY_CASES, *MODEL_CASES, *BUDGET_CASES, *LIMIT_CASES]
REVOCATION_S: Final = 0.5
FREE: Final = {"input_cost_per_token": 0, "output_cost_per_token": 0}
# Nobody listens there.
NOWHERE: Final = "http://127.0.0.1:1"
# Settings of the gateways, by `Case.gateway`; and those that one of them takes up in the end.
GENERAL: Final[dict[str, dict[str, Any]]] = {
    "other": {"litellm_key_header_name": CUSTOM_HEADER, "apply_user_budget_to_team_keys": True},
    "strict": {"allowed_ips": ["127.0.0.1"]},
    "elsewhere": {"allowed_ips": ["192.0.2.1"]},
}
LITELLM: Final = {"other": {"budget_exceeded_status_code": 429}, "strict": {"max_budget": 1.0}}
# Types of errors that say when to try again.
WAIT: Final = ("throttling_error", "service_unavailable")
# What no refusal may tell of: what exists beside what was asked for.
PRIVATE: Final = ("rt-", "grp-", "chat", "free", "fast", "sk-of", "postgres")


def entry(group: str, model: str, base: str, **info: Any) -> dict[str, Any]:
    """Return an entry of ``model_list``."""
    params = {"model": f"openai/{model}", "api_base": base, "api_key": OPENAI_KEY}
    return {
        "model_name": group,
        "litellm_params": params,
        "model_info": {"mode": "realtime", **info},
    }


def write_config(files: Files, base: str, database: str, name: str) -> None:
    """Write LiteLLM's configuration and our settings.

    Args:
        files: Where.
        base: The upstream's URL.
        database: URL of LiteLLM's.
        name: What is special: see `GENERAL` and `LITELLM`.
    """
    content = {
        "model_list": [
            entry("voice", "rt-a", base, access_groups=["grp-a"]),
            entry("voice", "rt-b", base, access_groups=["grp-b"], id="dep-b"),
            entry("chat", "rt-chat", base),
            entry("gpt-4.1-voice", "rt-dot", base),
            entry("free", "rt-free", base, **FREE),
            entry("free-down", "rt-free", NOWHERE, **FREE),
            entry("house", "rt-house", base, team_id="t-house"),
            entry("openai/*", "*", base),
        ],
        "router_settings": {
            "model_group_alias": {"fast": "voice"},
            "fallbacks": [{"free-down": ["voice"]}],
            "disable_cooldowns": True,
        },
        "general_settings": {
            "master_key": MASTER_KEY,
            "database_url": database,
            **GENERAL.get(name, {}),
        },
        "litellm_settings": LITELLM.get(name, {}),
    }
    files.config.write_text(json.dumps(content))
    files.write_settings(key_cache={"revocation_s": REVOCATION_S})


@dataclass(frozen=True, slots=True)
class Rules:
    """Gateways that read one database.

    Attributes:
        gateways: By `Case.gateway`.
        database: LiteLLM's.
        keys: By rule, what callers send.
    """

    gateways: dict[str, Gateway]
    database: Database
    keys: dict[str, str]

    async def ask(self, case: Case) -> Message:
        """Send the request of a case, after all that upstreams received before is forgotten."""
        gateway = self.gateways[case.gateway]
        gateway.reset()
        body = case.body
        if body is None:
            body = {"session": {"type": "realtime", "model": case.asks}}
        lines = [*case.headers(self.keys[case.rule]), JSON_TYPE]
        return await gateway.post(case.path, lines, json.dumps(body).encode())


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def rules(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rules]:
    """Give the gateways, with the rows of all cases in their database."""
    database = postgres.create_database()
    cases: list[Case | TokenCase] = [*CASES, *TOKEN_CASES]
    keys = {case.rule: case.build(database.rows) for case in cases}
    assert len(keys) == len(cases), "each rule is named once"
    # Where LiteLLM adds up what all keys spend.
    database.rows.user(user_id="litellm-proxy-budget", spend=2.0)
    async with AsyncExitStack() as stacks:
        upstream = await stacks.enter_async_context(RecordingUpstream())
        gateways = {}
        for name in ("usual", "other", "strict"):
            files = Files(Path(tmp_path_factory.mktemp(name)))
            write_config(files, upstream.url(), database.url, name)
            options = replace(files.options(), keys=None)
            stack = await stacks.enter_async_context(Stack(options))
            gateways[name] = Gateway(stack, files, upstream, upstream)
        yield Rules(gateways, database, keys)
        for gateway in gateways.values():
            for name, text in gateway.logs().items():
                assert find_secrets(text, *keys.values(), OPENAI_KEY, PASSWORD) == set(), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
async def test_a_key_means_what_it_means_in_litellm(rules: Rules, case: Case) -> None:
    """A key is admitted to a deployment of the model, or refused as the rule says."""
    answer = await rules.ask(case)
    gateway = rules.gateways[case.gateway]
    if case.expected is None:
        assert answer.status == 200, answer.raw
        (request,) = gateway.openai.received_at(CLIENT_SECRETS)
        assert request.json()["session"]["model"] in case.serves
        assert rules.keys[case.rule].encode() not in request.raw
    else:
        check_rule(answer, case.expected)
        assert gateway.openai.received == []


def check_rule(answer: Message, expected: Refusal) -> None:
    """Check that a refusal is the expected one and tells nothing beside it."""
    status, kind, code = expected
    check_refusal(answer, status, code)
    assert answer.error["type"] == kind
    assert answer.header("www-authenticate") == ("Bearer" if status == 401 else None)
    assert bool(answer.header("retry-after")) is (kind in WAIT)
    assert not [word for word in PRIVATE if word in answer.error["message"]]


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def tokens(rules: Rules) -> dict[str, str]:
    """Give tokens by rule, minted before the keys changed, and wait until that must be known."""
    gateway = rules.gateways["usual"]
    minted = {
        case.rule: await gateway.token(case.asks, key=rules.keys[case.rule]) for case in TOKEN_CASES
    }
    for case in TOKEN_CASES:
        case.change(rules.database, rules.keys[case.rule])
    await asyncio.sleep(REVOCATION_S)
    return minted


@pytest.mark.parametrize("case", TOKEN_CASES, ids=lambda case: case.rule)
async def test_a_token_is_as_good_as_its_key(
    rules: Rules, tokens: dict[str, str], case: TokenCase
) -> None:
    """What happens to a key, its team, user or project happens to its tokens, 0.5 s later here."""
    gateway = rules.gateways["usual"]
    gateway.reset()
    answer = await gateway.call(tokens[case.rule])
    if case.expected is None:
        assert answer.status == 201, answer.raw
        assert len(gateway.openai.received_at(CALLS)) == 1
    else:
        check_rule(answer, case.expected)
        assert gateway.openai.received == []


async def test_keys_may_be_used_from_some_addresses(rules: Rules) -> None:
    """``allowed_ips`` is taken up while running; then even the master key is refused elsewhere."""
    gateway = rules.gateways["strict"]
    assert (await gateway.mint(key=MASTER_KEY)).status == 200
    write_config(gateway.files, gateway.openai.url(), rules.database.url, "elsewhere")
    answers: list[Message] = []
    async with asyncio.timeout(30):
        while not answers or answers[-1].status == 200:
            await asyncio.sleep(0.1)
            gateway.reset()
            answers.append(await gateway.mint(key=MASTER_KEY))
    check_rule(answers[-1], (403, "auth_error", "address_denied"))
    assert gateway.openai.received == []
