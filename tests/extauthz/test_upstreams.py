import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from grpc import aio

from callsapi.v1.calls_pb2 import (
    EndCallRequest,
    Pricing,
    ReachRequest,
    ReachResponse,
    StandingRequest,
    Standpoint,
)
from callsapi.v1.calls_pb2_grpc import UpstreamsStub, add_UpstreamsServicer_to_server
from extauthz.admission import Admission
from extauthz.decision import Labels
from extauthz.deployments import Deployment, Origin
from extauthz.egress import Egress
from extauthz.entra import EntraTokens, log_in_through
from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import KeyQuery, KeySource, MasterKeySource, Scope, VirtualKey, hash_key
from extauthz.leashes import Leashes, UnsupervisableError
from extauthz.ownership import Callers
from extauthz.sessionlocks import SessionLockUnusableError
from extauthz.standing import Standings
from extauthz.tokenguard import TokenGuard
from extauthz.upstreams import Upstreams
from helpers.authz import AZURE, CLAIMS, EPHEMERAL_KEY, NOW, OPENAI, Clock, configuration, sealer
from helpers.recording import RecordingUpstream, Reply
from ringback.calllimits import CallLimits
from ringback.secrets import Secret
from ringback.sessionlock import parse_lock, parse_lock_text
from ringback.settings import TokenSettings
from ringback.tokens import call_key_sealer, handle_sealer
from ringback.tokens.handles import CallHandle, seal_handle

MASTER = Secret("sk-master")
SECRET = TokenSettings(secret=Secret("0123456789abcdef"))
HANDLES = handle_sealer(SECRET, {})
CALL_KEYS = call_key_sealer(SECRET, {})
PREVIEW = replace(AZURE, id="d-preview", dialect="azure-preview", api_version="2025-04-01-preview")
KEY = VirtualKey("a" * 64, organization=Scope("org-1"), project=Scope("project-1"))


def handle_of(deployment: str) -> str:
    """Return the handle of a call at a deployment."""
    call = CallHandle(
        deployment=deployment, call_id="rtc_1", key_hash="a" * 64, token_id="t", issued_at=NOW
    )
    return seal_handle(call, HANDLES, NOW)


@asynccontextmanager
async def served(
    *deployments: Deployment, source: KeySource | None = None
) -> AsyncIterator[tuple[UpstreamsStub, Leashes]]:
    """Serve over a real socket, with the upstream itself in the egress listener's place."""
    current = configuration(source or MasterKeySource(MASTER), deployments=deployments)
    tokens, admission = TokenGuard(sealer(), Clock()), Admission(lambda: current, Clock())
    callers = Callers(lambda _: current, admission, tokens, HANDLES, Clock())
    where = str(deployments[0].origin) if deployments else "http://127.0.0.1:9"
    egress = Egress.through(where)
    leashes = Leashes(CALL_KEYS, is_required=True, now=Clock())
    logins = EntraTokens(log_in_through(egress), Clock())
    server = aio.server()
    standings = Standings(admission, lambda _: current, Clock(), 3.0)
    service = Upstreams(callers, logins.key_headers, egress, leashes, standings)
    add_UpstreamsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield UpstreamsStub(channel), leashes
    await server.stop(None)
    await egress.close()


@pytest.mark.parametrize(
    ("deployment", "root", "name", "value"),
    [
        (OPENAI, "/v1/realtime", "authorization", "Bearer sk-upstream-openai"),
        (AZURE, "/openai/v1/realtime", "api-key", "azure-upstream-key"),
    ],
    ids=["openai", "azure"],
)
async def test_callkeeper_learns_how_a_provider_is_reached(
    deployment: Deployment, root: str, name: str, value: str
) -> None:
    """Paths are the dialect's; the ephemeral key comes as a bearer token beside the other."""
    deployment = replace(deployment, prices={"input_cost_per_token": "4e-06"})
    async with served(deployment) as (stub, leashes):
        labels = leashes.put_on(Labels("call"), CLAIMS, KEY, deployment)
        sealed_key = labels.sealed_key or ""
        assert EPHEMERAL_KEY not in sealed_key
        request = ReachRequest(handle=handle_of(deployment.id), sealed_key=sealed_key)
        assert await stub.Reach(request) == ReachResponse(
            cluster=deployment.origin.cluster,
            authority=deployment.origin.authority,
            sideband_path=f"{root}?call_id=rtc_1",
            hangup_path=f"{root}/calls/rtc_1/hangup",
            headers={name: value},
            origin=str(deployment.origin),
            ephemeral_headers={"authorization": f"Bearer {EPHEMERAL_KEY}"},
            pricing=Pricing(
                provider=deployment.provider,
                model=deployment.upstream_model,
                prices={"input_cost_per_token": "4e-06"},
            ),
        )


@pytest.mark.parametrize(
    ("handle", "code"),
    [
        ("rtc_made_up", grpc.StatusCode.NOT_FOUND),
        (handle_of("gone"), grpc.StatusCode.NOT_FOUND),
        (handle_of(PREVIEW.id), grpc.StatusCode.FAILED_PRECONDITION),
    ],
    ids=["no-handle", "no-deployment", "no-way-back"],
)
async def test_what_cannot_be_reached(handle: str, code: grpc.StatusCode) -> None:
    """Whoever asks learns why, and no credential."""
    async with served(OPENAI, PREVIEW) as (stub, _):
        with pytest.raises(aio.AioRpcError) as reach:
            await stub.Reach(ReachRequest(handle=handle))
        with pytest.raises(aio.AioRpcError) as end:
            await stub.EndCall(EndCallRequest(handle=handle))
        assert reach.value.code() is end.value.code() is code


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, grpc.StatusCode.OK),
        (404, grpc.StatusCode.OK),
        (401, grpc.StatusCode.UNAVAILABLE),
        (500, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_call_is_ended(status: int, code: grpc.StatusCode) -> None:
    """The provider's hangup with the standard key; a call that is not there has ended."""
    async with RecordingUpstream() as upstream:
        upstream.script["hangup"] = Reply(status)
        here = replace(OPENAI, origin=Origin("http", "127.0.0.1", upstream.port))
        async with served(here) as (stub, _):
            ended = stub.EndCall(EndCallRequest(handle=handle_of(here.id)))
            assert (await ended.code()) is code
        (request,) = upstream.received
        assert request.target == "/v1/realtime/calls/rtc_1/hangup"
        assert request.header("authorization") == "Bearer sk-upstream-openai"


async def test_callkeeper_learns_how_those_stand_who_pay() -> None:
    """In the order in which it asks; limits of budgets are those of the moment."""
    async with served(OPENAI) as (stub, _):
        master = Standpoint(key_hash=hash_key(MASTER), model="voice", deployment=OPENAI.id)
        unknown = Standpoint(key_hash="0" * 64, model="voice", deployment=OPENAI.id)
        answer = await stub.Standing(StandingRequest(of=[unknown, master, unknown] * 3))
        reasons = [each.reason for each in answer.standings]
        assert reasons == ["key_deleted", "", "key_deleted"] * 3


async def test_many_are_told_of_in_the_time_of_one_when_their_source_is_slow() -> None:
    """Its failure is found out once for all of them."""

    class Slow:
        async def find(self, query: KeyQuery) -> VirtualKey | None:
            assert query.secret is None
            await asyncio.sleep(0.6)
            raise KeySourceUnavailableError

    async with served(OPENAI, source=Slow()) as (stub, _):
        began = time.monotonic()
        asked = [Standpoint(key_hash=f"{number:064}", model="voice") for number in range(100)]
        answer = await stub.Standing(StandingRequest(of=asked))
        assert [each.is_unknown for each in answer.standings] == [True] * 100
        assert time.monotonic() - began < 2


def test_labels_say_who_pays() -> None:
    """Organization, project and origin; nothing of it if calls are not supervised."""
    labels = Leashes(CALL_KEYS, now=Clock()).put_on(Labels("call"), CLAIMS, KEY, OPENAI)
    assert (labels.organization, labels.project) == ("org-1", "project-1")
    assert labels.upstream_origin == "https://api.openai.com"
    assert labels.call_limits == CallLimits(is_required=False)
    assert Leashes().put_on(Labels("call"), CLAIMS, KEY, OPENAI) == Labels("call")


def test_labels_say_what_is_locked() -> None:
    """A deployment's lock beats that of a key; where nobody could hold it, there is no call."""
    locked = replace(OPENAI, session_lock=parse_lock({"instructions": "x"}))
    key = replace(KEY, session_lock=parse_lock({"instructions": "y", "tools": []}))
    labels = Leashes(CALL_KEYS, now=Clock()).put_on(Labels("call"), CLAIMS, key, locked)
    assert labels.session_lock is not None
    assert parse_lock_text(labels.session_lock) == parse_lock({"instructions": "x", "tools": []})
    assert Leashes(CALL_KEYS).put_on(Labels("call"), CLAIMS, KEY, OPENAI).session_lock is None
    listening = replace(CLAIMS, session_type="transcription")
    labels = Leashes(CALL_KEYS, now=Clock()).put_on(Labels("call"), listening, key, locked)
    assert labels.session_lock is None
    with pytest.raises(SessionLockUnusableError, match="needs supervision"):
        Leashes().put_on(Labels("call"), CLAIMS, key, OPENAI)
    with pytest.raises(UnsupervisableError, match="a current API"):
        Leashes(CALL_KEYS).put_on(Labels("call"), CLAIMS, key, PREVIEW)


def test_calls_that_must_be_supervised_and_cannot_are_refused() -> None:
    """A dialect without a way back takes no calls then; with best effort it does."""
    with pytest.raises(UnsupervisableError, match="a current API"):
        Leashes(CALL_KEYS, is_required=True).put_on(Labels("call"), CLAIMS, KEY, PREVIEW)
    with pytest.raises(UnsupervisableError):
        Leashes(CALL_KEYS, is_limited=lambda *_: True).put_on(Labels("call"), CLAIMS, KEY, PREVIEW)
    labels = Leashes(CALL_KEYS, now=Clock()).put_on(Labels("call"), CLAIMS, KEY, PREVIEW)
    assert labels.sealed_key


@pytest.mark.parametrize("is_limited", [True, False])
def test_a_call_says_what_it_is_held_to(*, is_limited: bool) -> None:
    """Its key's limits, the name that it was asked for by, and whether it must be supervised."""
    key = replace(KEY, call_limits=CallLimits(idle_s=30))
    leashes = Leashes(CALL_KEYS, is_limited=lambda *_: is_limited, now=Clock())
    labels = leashes.put_on(Labels("call"), replace(CLAIMS, asked="fast"), key, OPENAI)
    assert labels.asked == "fast"
    assert labels.call_limits == CallLimits(is_required=is_limited, idle_s=30)


@pytest.mark.parametrize(
    "text", ["", "ck_made_up", handle_of("d")], ids=["none", "made-up", "other"]
)
def test_only_what_was_sealed_for_it_opens(text: str) -> None:
    """Anything else is as good as no key."""
    assert Leashes(CALL_KEYS, now=Clock()).open(text) is None
