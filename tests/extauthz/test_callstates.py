import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from callsapi.v1 import calls_pb2
from callsapi.v1.calls_pb2 import CallState, GetRequest, ListRequest, ListResponse, Usage
from callsapi.v1.calls_pb2_grpc import CallsServicer, add_CallsServicer_to_server
from extauthz.admission import Admission
from extauthz.callview import show_call
from extauthz.decision import Answer, RequestFacts
from extauthz.endpoints.callstates import CallStates
from extauthz.gate import Gate
from extauthz.keptcalls import KeptCalls
from extauthz.keys import KeyQuery, KeySource, MasterKeySource, VirtualKey, hash_key
from extauthz.ownership import Callers
from extauthz.tokenguard import TokenGuard
from helpers.authz import CLAIMS, NOW, Clock, configuration, sealer
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer
from ringback.tokens.handles import CallHandle, seal_handle

MASTER, KEY, OTHER = (f"sk-{name}-of-this-test" for name in ("master", "key", "other"))
HASH = hash_key(Secret(KEY))
HANDLES = handle_sealer(TokenSettings(secret=Secret("0123456789abcdef")), {})
CALL = CallHandle(
    deployment=CLAIMS.deployment,
    call_id="rtc_1",
    key_hash=HASH,
    token_id=CLAIMS.jti,
    issued_at=NOW - 60,
)
HANDLE = seal_handle(CALL, HANDLES, NOW)
STATE = CallState(
    id="0" * 32,
    deployment=CLAIMS.deployment,
    model="voice",
    token_id=CLAIMS.jti,
    opened_at=NOW - 60.25,
    phase=calls_pb2.PHASE_ATTACHED,
    usage=Usage(text_in=10, audio_in=20, cached_audio_in=5, text_out=3, audio_out=4, seconds=1.5),
    cost_microdollars=12_345,
    ends_at=NOW + 100,
    handle=HANDLE,
)
SHOWN = {
    "id": HANDLE,
    "object": "realtime.call",
    "model": "voice",
    "state": "attached",
    "reason": None,
    "opened_at": NOW - 60.2,
    "ended_at": None,
    "duration_s": 60.2,
    "usage": {
        "input_tokens": 35,
        "input_token_details": {
            "text_tokens": 10,
            "audio_tokens": 25,
            "image_tokens": 0,
            "cached_tokens": 5,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 5, "image_tokens": 0},
        },
        "output_tokens": 7,
        "output_token_details": {"text_tokens": 3, "audio_tokens": 4},
        "transcribed_s": 1.5,
    },
    "cost": 0.012345,
    "left": {"duration_s": 100.0, "idle_s": None, "cost": None, "budget": None},
}


@dataclass
class Keeper(CallsServicer):
    """Stands for a worker of callkeeper.

    Attributes:
        states: What it knows.
        refuses: With what it refuses all requests.
        listed: What it was asked to list.
    """

    states: list[CallState] = field(default_factory=list)
    refuses: grpc.StatusCode | None = None
    listed: list[ListRequest] = field(default_factory=list)

    async def Get(
        self, request: GetRequest, context: aio.ServicerContext[GetRequest, CallState]
    ) -> CallState:
        """Return a call by its handle."""
        found = [state for state in self.states if state.handle == request.call]
        if self.refuses or not found:
            await context.abort(self.refuses or grpc.StatusCode.NOT_FOUND)
        return found[0]

    async def List(
        self, request: ListRequest, context: aio.ServicerContext[ListRequest, ListResponse]
    ) -> ListResponse:
        """Return all calls, whatever is asked for."""
        self.listed.append(request)
        if self.refuses:
            await context.abort(self.refuses)
        return ListResponse(calls=self.states)


class Keys(KeySource):
    """Knows two keys."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return a key by its hash."""
        known = {hash_key(Secret(key)) for key in (KEY, OTHER)}
        return VirtualKey(query.hash) if query.hash in known else None


@asynccontextmanager
async def asked(folder: Path, *keepers: Keeper) -> AsyncIterator[Gate]:
    """Give a gate that asks these workers over real sockets."""
    current = configuration(MasterKeySource(Secret(MASTER)), Keys())
    tokens, admission = TokenGuard(sealer(), Clock()), Admission(lambda: current, Clock())
    callers = Callers(lambda _: current, admission, tokens, HANDLES, Clock())
    addresses = [f"unix:{folder}/{number}" for number in range(len(keepers))]
    async with AsyncExitStack() as stack:
        for address, keeper in zip(addresses, keepers, strict=True):
            server = aio.server()
            add_CallsServicer_to_server(keeper, server)
            server.add_insecure_port(address)
            await server.start()
            stack.push_async_callback(server.stop, None)
        kept = KeptCalls(addresses)
        kept.start()
        stack.push_async_callback(kept.stop)
        yield Gate([CallStates(callers, kept, Clock())])


async def get(gate: Gate, credential: str = KEY, path: str = f"/{HANDLE}") -> Answer:
    """Return the answer to a request."""
    headers = {"authorization": f"Bearer {credential}"}
    answer = await gate.decide(RequestFacts("GET", f"/v1/realtime/calls{path}", headers))
    assert isinstance(answer, Answer)
    return answer


def token(**changes: Any) -> str:
    """Return a token of the key, that of the call but for what is said."""
    claims = replace(CLAIMS, key_hash=HASH, **changes)
    return sealer().seal(claims.to_claims(), claims.iat)


@pytest.mark.parametrize("credential", [KEY, MASTER, token()], ids=["key", "master", "token"])
async def test_the_owner_sees_a_call(tmp_path: Path, credential: str) -> None:
    """Whichever worker keeps it; in what callers may see no id of ours and no name of a key."""
    async with asked(tmp_path, Keeper(), Keeper([STATE])) as gate:
        answer = await get(gate, credential)
    assert (answer.status, json.loads(answer.body)) == (200, SHOWN)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.labels.outcome == "call_state"


async def test_a_token_sees_its_call_after_its_expiry(tmp_path: Path) -> None:
    """As long as a call may last, which may end because of its key: the page can say so."""
    unknown = replace(CALL, key_hash="b" * 64)
    handle = seal_handle(unknown, HANDLES, NOW)
    expired = token(iat=NOW - 4000, exp=NOW - 3000)
    of_blocked = sealer().seal(replace(CLAIMS, key_hash="b" * 64).to_claims(), NOW)
    states = [STATE, CallState(handle=handle, opened_at=NOW, phase=calls_pb2.PHASE_ENDING)]
    async with asked(tmp_path, Keeper(states)) as gate:
        assert (await get(gate, expired)).status == 200
        assert (await get(gate, of_blocked, f"/{handle}")).status == 200
        assert (await get(gate, token(iat=NOW - 9000, exp=NOW - 3600))).status == 401


@pytest.mark.parametrize(
    ("credential", "path", "status"),
    [
        (OTHER, f"/{HANDLE}", 404),
        (token(jti="another"), f"/{HANDLE}", 404),
        (KEY, "/rtc_made_up", 404),
        ("sk-nobody", f"/{HANDLE}", 401),
        ("sk-nobody", "/rtc_made_up", 401),
        ("sk-nobody", "", 401),
    ],
)
async def test_to_others_a_call_does_not_exist(
    tmp_path: Path, credential: str, path: str, status: int
) -> None:
    """Nobody asks callkeeper for them."""
    keeper = Keeper([STATE], refuses=grpc.StatusCode.INTERNAL)
    async with asked(tmp_path, keeper) as gate:
        assert (await get(gate, credential, path)).status == status
    assert keeper.listed == []


@pytest.mark.parametrize(
    ("credential", "wanted"),
    [
        (KEY, {"key_hash": HASH}),
        (MASTER, {}),
        (token(), {"key_hash": HASH, "token_id": CLAIMS.jti}),
    ],
    ids=["key", "master", "token"],
)
async def test_callers_list_their_own_calls(
    tmp_path: Path, credential: str, wanted: Mapping[str, str]
) -> None:
    """A key those that it pays for, a token the one that it opened, latest first."""
    later = CallState(handle="rtc_2", opened_at=NOW, phase=calls_pb2.PHASE_OPENED)
    keepers = Keeper([later]), Keeper([STATE])
    async with asked(tmp_path, *keepers) as gate:
        content = json.loads((await get(gate, credential, "")).body)
    assert (content["object"], content["has_more"]) == ("list", False)
    assert [call["id"] for call in content["data"]] == ["rtc_2", HANDLE]
    request = ListRequest(with_ended=True, limit=101, **wanted)
    assert [keeper.listed for keeper in keepers] == [[request], [request]]


async def test_of_many_calls_the_latest_are_listed(tmp_path: Path) -> None:
    """100 of them, and that there are more."""
    many = [CallState(handle=f"rtc_{n}", opened_at=NOW + n) for n in range(101)]
    async with asked(tmp_path, Keeper(many)) as gate:
        content = json.loads((await get(gate, KEY, "")).body)
    assert [call["id"] for call in content["data"]] == [f"rtc_{n}" for n in range(100, 0, -1)]
    assert content["has_more"] is True


async def test_without_callkeeper_nobody_can_tell(tmp_path: Path) -> None:
    """503 if a worker that might keep the call cannot be asked; one that does is enough."""
    down = Keeper(refuses=grpc.StatusCode.UNAVAILABLE)
    async with asked(tmp_path, down, Keeper([STATE])) as gate:
        assert (await get(gate)).status == 200
        answer = await get(gate, path="")
        assert answer.labels.outcome == "call_states_unavailable"
    async with asked(tmp_path, down, Keeper()) as gate:
        answer = await get(gate)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body)["error"]["code"] == "call_states_unavailable"


def test_of_an_ended_call_the_reason_is_shown() -> None:
    """And how long it was; nothing is left of anything."""
    ended = CallState()
    ended.CopyFrom(STATE)
    ended.phase, ended.reason, ended.ended_at = calls_pb2.PHASE_ENDED, "idle", NOW - 40
    ended.max_cost_microdollars = 20_000
    shown = show_call(ended, NOW + 100)
    assert shown == SHOWN | {
        "state": "ended",
        "reason": "idle",
        "ended_at": NOW - 40,
        "duration_s": 20.2,
        "left": {"duration_s": None, "idle_s": None, "cost": None, "budget": None},
    }


def test_what_is_left_is_never_negative() -> None:
    """A limit that is reached shows as 0 until the call has ended."""
    late = CallState()
    late.CopyFrom(STATE)
    late.idle_ends_at = NOW + 7.25
    late.max_cost_microdollars = 20_000
    late.budget_left_microdollars = 1_500_000
    left = {"duration_s": 100.0, "idle_s": 7.2, "cost": 0.007655, "budget": 1.5}
    assert show_call(late, NOW)["left"] == left
    late.max_cost_microdollars, late.budget_left_microdollars = 1, 0
    left = {"duration_s": 0.0, "idle_s": 0.0, "cost": 0.0, "budget": 0.0}
    assert show_call(late, NOW + 200)["left"] == left


@pytest.mark.parametrize(
    ("credential", "told"),
    [(KEY, 2.5), (MASTER, 2.5), (token(), None)],
    ids=["key", "master", "token"],
)
async def test_only_keys_learn_of_budgets(
    tmp_path: Path, credential: str, told: float | None
) -> None:
    """They may be shared with others, about whom a page has nothing to know."""
    state = CallState()
    state.CopyFrom(STATE)
    state.budget_left_microdollars = 2_500_000
    async with asked(tmp_path, Keeper([state])) as gate:
        one = json.loads((await get(gate, credential)).body)
        (listed,) = json.loads((await get(gate, credential, "")).body)["data"]
    assert one["left"]["budget"] == listed["left"]["budget"] == told
