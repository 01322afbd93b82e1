from dataclasses import replace
from typing import Any, Final, get_args

import pytest

from extauthz.deployments import Deployment, DialectName, Origin
from extauthz.providers import dialect_of, provider_of
from extauthz.providers.base import AuthScheme, credential, quotes_credential
from ringback.secrets import Secret

OPENAI: Final = Deployment(
    "d1", "voice", "openai", "gpt-realtime", Origin("https", "api.openai.com", 443), "", Secret("K")
)
AZURE: Final = replace(
    OPENAI,
    provider="azure",
    upstream_model="rt dep",
    origin=Origin("https", "r.openai.azure.com", 443),
)
DATED: Final = replace(AZURE, dialect="azure-dated", api_version="2025-08-28")
PREVIEW: Final = replace(
    AZURE,
    dialect="azure-preview",
    api_version="2025-04-01-preview",
    calls_origin=Origin("https", "eastus2.realtimeapi-preview.ai.azure.com", 443),
)
BEHIND: Final[dict[str, Any]] = {"base_path": "/eu", "calls_base_path": "/rtc"}
CALL: Final = "rtc_u1/odd?id"
ALL: Final = [OPENAI, AZURE, DATED, PREVIEW]
IDS: Final = ["openai", "azure", "azure-dated", "azure-preview"]


def paths(deployment: Deployment) -> dict[str, str | None]:
    """Return every path of a deployment."""
    provider = provider_of(deployment)
    return {
        "mint": provider.mint_request(deployment).path,
        "calls": provider.calls_path(deployment),
        "hangup": provider.control_path(deployment, CALL, "hangup"),
        "sideband": provider.sideband_path(deployment, CALL),
        "websocket": provider.websocket_path(deployment),
        "transcription": provider.websocket_path(deployment, intent="transcription"),
    }


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        # Realistic
        pytest.param(
            OPENAI,
            {
                "mint": "/v1/realtime/client_secrets",
                "calls": "/v1/realtime/calls",
                "hangup": "/v1/realtime/calls/rtc_u1%2Fodd%3Fid/hangup",
                "sideband": "/v1/realtime?call_id=rtc_u1%2Fodd%3Fid",
                "websocket": "/v1/realtime?model=gpt-realtime",
                "transcription": "/v1/realtime?intent=transcription",
            },
            id="openai",
        ),
        pytest.param(
            AZURE,
            {
                "mint": "/openai/v1/realtime/client_secrets",
                "calls": "/openai/v1/realtime/calls",
                "hangup": "/openai/v1/realtime/calls/rtc_u1%2Fodd%3Fid/hangup",
                "sideband": "/openai/v1/realtime?call_id=rtc_u1%2Fodd%3Fid",
                "websocket": "/openai/v1/realtime?model=rt%20dep",
                "transcription": "/openai/v1/realtime?intent=transcription",
            },
            id="azure",
        ),
        pytest.param(
            DATED,
            {
                "mint": "/openai/realtime/client_secrets?api-version=2025-08-28",
                "calls": "/openai/realtime/calls?api-version=2025-08-28",
                "hangup": "/openai/realtime/calls/rtc_u1%2Fodd%3Fid/hangup?api-version=2025-08-28",
                "sideband": "/openai/v1/realtime?call_id=rtc_u1%2Fodd%3Fid",
                "websocket": "/openai/realtime?api-version=2025-08-28&deployment=rt%20dep",
                "transcription": "/openai/realtime?api-version=2025-08-28&intent=transcription",
            },
            id="azure-dated",
        ),
        pytest.param(
            PREVIEW,
            {
                "mint": "/openai/realtimeapi/sessions?api-version=2025-04-01-preview",
                "calls": "/v1/realtimertc?model=rt%20dep",
                "hangup": None,
                "sideband": None,
                "websocket": "/openai/realtime?api-version=2025-04-01-preview&deployment=rt%20dep",
                "transcription": (
                    "/openai/realtime?api-version=2025-04-01-preview&intent=transcription"
                ),
            },
            id="azure-preview",
        ),
    ],
)
def test_paths_are_exact(deployment: Deployment, expected: dict[str, str | None]) -> None:
    """Each dialect has these paths and queries; ids and names cannot change them."""
    assert paths(deployment) == expected


@pytest.mark.parametrize("deployment", ALL, ids=IDS)
def test_a_base_path_comes_first(deployment: Deployment) -> None:
    """Behind another gateway, every path begins with its own."""
    moved = paths(replace(deployment, **BEHIND))
    for name, path in paths(deployment).items():
        base = "/rtc" if deployment is PREVIEW and name == "calls" else "/eu"
        assert moved[name] == (None if path is None else base + path)


@pytest.mark.parametrize("deployment", ALL, ids=IDS)
def test_dialects_say_what_else_they_can(deployment: Deployment) -> None:
    """Only Azure filters events; all but its preview transcribe."""
    provider = provider_of(deployment)
    assert provider.HAS_WEBRTCFILTER is (deployment in (AZURE, DATED))
    assert provider.TRANSCRIBES is (deployment is not PREVIEW)
    assert provider.CALLS_AUTH_SCHEME == "bearer"
    expected = deployment.calls_origin or deployment.origin
    assert provider.calls_origin(deployment) == expected
    assert expected in deployment.origins


def test_every_dialect_has_a_module() -> None:
    """The names of dialects and the modules agree; without a name it is that of the provider."""
    assert [dialect_of(deployment) for deployment in ALL] == list(get_args(DialectName))


@pytest.mark.parametrize(
    ("deployment", "headers"),
    [
        pytest.param(
            replace(OPENAI, organization="org-1", project="proj_1"),
            {"openai-organization": "org-1", "openai-project": "proj_1"},
            id="openai",
        ),
        pytest.param(AZURE, {}, id="azure"),
        pytest.param(DATED, {}, id="azure-dated"),
        pytest.param(PREVIEW, {}, id="azure-preview"),
    ],
)
def test_a_key_or_a_token_opens_an_upstream(
    deployment: Deployment, headers: dict[str, str]
) -> None:
    """Azure takes its key as api-key and a token of Entra ID as bearer; extra headers go along."""
    deployment = replace(
        deployment, extra_headers={"x-gateway": Secret("G"), "authorization": Secret("mine")}
    )
    provider = provider_of(deployment)
    headers = {"x-gateway": "G", **headers}

    def shown(entra_token: Secret | None) -> dict[str, str]:
        found = provider.key_headers(deployment, entra_token)
        return {name: value.reveal() for name, value in found.items()}

    assert shown(Secret("T")) == {**headers, "authorization": "Bearer T"}
    if deployment.provider == "openai":
        assert shown(None) == {**headers, "authorization": "Bearer K"}
    else:
        assert shown(None) == {**headers, "authorization": "mine", "api-key": "K"}


@pytest.mark.parametrize("deployment", ALL, ids=IDS)
def test_a_mint_request_is_json(deployment: Deployment) -> None:
    """Besides what opens the upstream it has what JSON needs, and it can be logged."""
    request = provider_of(deployment).mint_request(deployment, Secret("sk-marker"))
    assert request.origin == deployment.origin
    assert {name: value.reveal() for name, value in request.headers.items()} == {
        "authorization": "Bearer sk-marker",
        "accept": "application/json",
        "content-type": "application/json",
    }
    assert "sk-marker" not in f"{request!r}{request}"


@pytest.mark.parametrize(
    ("scheme", "name", "value"),
    [("bearer", "authorization", "Bearer ek_1"), ("api-key", "api-key", "ek_1")],
)
def test_a_credential_is_one_header(scheme: AuthScheme, name: str, value: str) -> None:
    """A scheme gives the header that shows a key."""
    assert credential(scheme, Secret("ek_1")) == (name, Secret(value))


@pytest.mark.parametrize(
    ("body", "quotes"),
    [
        # Realistic
        pytest.param(b'{"error":{"message":"bad key sk-1234567"}}', True, id="key"),
        pytest.param(b"Bearer eyJ.a.b is not valid", True, id="token"),
        pytest.param(b'{"error":{"message":"bad model"}}', False, id="neither"),
        pytest.param(b'{"error":{"message":"no key gate/way-0123456789"}}', True, id="extra"),
        pytest.param(b'{"error":{"message":"no such tier: gold"}}', False, id="extra-word"),
        pytest.param(b'{"error":{"message":"limit of org-0123456789abc"}}', False, id="ours"),
        # Synthetic
        pytest.param(b"application/json Bearer", False, id="what-is-no-secret"),
        pytest.param(b'{"message":"bad key sk\\u002d1234567"}', True, id="escaped"),
        pytest.param(b'{"message":"gate\\/way-0123456789"}', True, id="escaped-slash"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_answers_that_quote_a_credential_are_noticed(body: bytes, quotes: bool) -> None:
    """A key or token in an answer is found; an empty key is in none."""
    headers = {
        "authorization": Secret("Bearer eyJ.a.b"),
        "api-key": Secret("sk-1234567"),
        "accept": Secret("application/json"),
        "openai-organization": Secret("org-0123456789abc"),
        "x-gateway-key": Secret("gate/way-0123456789"),
        "x-tier": Secret("gold"),
    }
    assert quotes_credential(body, headers) is quotes
    assert not quotes_credential(body, {"api-key": Secret("")})
    assert not quotes_credential(body, {})


SESSION: Final[dict[str, Any]] = {
    "type": "realtime",
    "model": "rt",
    "instructions": "Be brief.",
    "output_modalities": ["audio"],
    "max_output_tokens": 200,
    "tools": [{"type": "function", "name": "f"}],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "whisper-1"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {"type": "server_vad"},
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "alloy", "speed": 1.1},
    },
}
EXPIRES: Final = {"anchor": "created_at", "seconds": 60}


@pytest.mark.parametrize("deployment", [OPENAI, AZURE, DATED], ids=IDS[:3])
def test_current_dialects_send_the_session_as_it_is(deployment: Deployment) -> None:
    """The session is nested, and the expiry beside it, if there is one."""
    provider = provider_of(deployment)
    assert provider.mint_body(SESSION, EXPIRES) == {"session": SESSION, "expires_after": EXPIRES}
    assert provider.mint_body(SESSION, None) == {"session": SESSION}


@pytest.mark.parametrize(
    ("session", "body"),
    [
        # Realistic
        pytest.param(
            SESSION,
            {
                "model": "rt",
                "instructions": "Be brief.",
                "modalities": ["text", "audio"],
                "max_response_output_tokens": 200,
                "tools": [{"type": "function", "name": "f"}],
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1"},
                "input_audio_noise_reduction": {"type": "near_field"},
                "turn_detection": {"type": "server_vad"},
                "output_audio_format": "g711_ulaw",
                "voice": "alloy",
                "speed": 1.1,
            },
            id="everything",
        ),
        pytest.param({"type": "realtime", "model": "rt"}, {"model": "rt"}, id="nothing"),
        # Synthetic
        pytest.param(
            {"model": "rt", "output_modalities": ["text"], "audio": {"output": None}},
            {"model": "rt", "modalities": ["text"]},
            id="text-only",
        ),
        pytest.param(
            {"model": "rt", "audio": {"input": {"format": {"type": "audio/new"}}}},
            {"model": "rt", "input_audio_format": {"type": "audio/new"}},
            id="unknown-format",
        ),
        # Pathological
        pytest.param({"model": "rt", "audio": "loud"}, {"model": "rt"}, id="audio-is-no-object"),
    ],
)
def test_the_preview_is_flat(session: dict[str, Any], body: dict[str, Any]) -> None:
    """Members have the names of the retired beta; the current names, which it refuses, are gone."""
    assert provider_of(PREVIEW).mint_body(session, EXPIRES) == body
