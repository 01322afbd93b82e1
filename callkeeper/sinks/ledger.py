"""Charges as rows of LiteLLM's spend tables. Pure; sums are of whole microdollars."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from callkeeper.model import Call, Charge, Tokens

# What LiteLLM calls its own realtime sessions, which have no ``endpoint`` in the daily tables.
_CALL_TYPE: Final = "_arealtime"
_MICRO: Final = 1_000_000
# Columns of tokens in SpendLogs are of four bytes.
_MAX_INT: Final = 2**31 - 1
_AZURE: Final = (".azure.com", ".azure.us", ".azure.cn")
# LiteLLM's row for the budget of the whole proxy, if it has one.
PROXY_USER: Final = "litellm-proxy-budget"

Row = dict[str, Any]
Spent = Mapping[str, int]
SpentOfTwo = Mapping[tuple[str, str], int]


@dataclass(slots=True)
class Sums:
    """What a batch adds to each row, in microdollars.

    Attributes:
        keys: By ``token``.
        users: By ``user_id``; the row of the whole proxy among them.
        teams: By ``team_id``.
        members: By ``(team_id, user_id)``.
        organizations: By ``organization_id``.
        organization_members: By ``(organization_id, user_id)``.
        projects: By ``project_id``.
        end_users: By ``user_id`` of end users.
    """

    keys: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    users: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    teams: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    members: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    organizations: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    organization_members: dict[tuple[str, str], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    projects: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    end_users: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def dollars(microdollars: int) -> float:
    """Return an amount as LiteLLM stores it: the nearest double."""
    return microdollars / _MICRO


def request_id(charge: Charge) -> str:
    """Return the row's id, by which a charge counts once.

    A response has an id of the provider. An item may have one of the client's choice, which
    therefore must not be that of anything outside of its call.
    """
    usage = charge.usage
    return _text(usage.id if usage.kind == "response" else f"{charge.call.id}-{usage.id}")


def log_row(charge: Charge) -> Row:
    """Return a row of LiteLLM_SpendLogs, as LiteLLM writes it for realtime sessions of its own."""
    call, usage, payer = charge.call, charge.usage, charge.call.payer
    counts = _counts(usage.tokens)
    at = _naive(usage.at)
    return {
        "request_id": request_id(charge),
        "call_type": _CALL_TYPE,
        "api_key": payer.key_hash,
        "spend": dollars(charge.cost_microdollars),
        **counts,
        "total_tokens": min(sum(counts.values()), _MAX_INT),
        "startTime": at,
        "endTime": at,
        "completionStartTime": at,
        "model": _model(charge),
        "model_id": _text(call.deployment),
        "model_group": _text(call.model),
        "custom_llm_provider": provider_of(call),
        "api_base": _text(call.origin),
        "user": _text(payer.user_id),
        "team_id": _text(payer.team_id),
        "organization_id": _text(payer.organization_id),
        "end_user": _text(payer.end_user),
        "metadata": _metadata(charge),
        "cache_hit": "False",
        "cache_key": "Cache OFF",
        "request_tags": [],
        "session_id": call.id,
        "litellm_call_id": _text(call.request_id),
        "status": "success",
    }


def sum_up(charges: Iterable[Charge]) -> Sums:
    """Return what charges add to the rows of who pays them, as LiteLLM would."""
    sums = Sums()
    for charge in charges:
        payer, cost = charge.call.payer, charge.cost_microdollars
        user, team, organization = (
            _text(name) for name in (payer.user_id, payer.team_id, payer.organization_id)
        )
        sums.keys[payer.key_hash] += cost
        sums.users[PROXY_USER] += cost
        if user:
            sums.users[user] += cost
        if team:
            sums.teams[team] += cost
        if team and user:
            sums.members[team, user] += cost
        if organization:
            sums.organizations[organization] += cost
        if organization and user:
            sums.organization_members[organization, user] += cost
        if payer.project_id:
            sums.projects[_text(payer.project_id)] += cost
        if payer.end_user:
            sums.end_users[_text(payer.end_user)] += cost
    return sums


def daily_rows(charges: Iterable[Charge], owner: str) -> list[Row]:
    """Return what charges add to a daily table, one row for each key of it, in their order.

    Args:
        charges: Of any days.
        owner: The attribute of `Payer` that the table is about. Those without one are left out,
            but for users: theirs is the table that LiteLLM sums up for the whole proxy.
    """
    rows: dict[tuple[str, ...], Row] = {}
    for charge in charges:
        named = _text(getattr(charge.call.payer, owner))
        if not named and owner != "user_id":
            continue
        call, tokens = charge.call, charge.usage.tokens
        day = _naive(charge.usage.at)[:10]
        key = (named, day, call.payer.key_hash, _model(charge), provider_of(call))
        row = rows.setdefault(
            key,
            {
                **dict(
                    zip(
                        ("owner", "date", "api_key", "model", "custom_llm_provider"),
                        key,
                        strict=True,
                    )
                ),
                "model_group": _text(call.model),
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "cache_read_input_tokens": 0,
                "api_requests": 0,
                "successful_requests": 0,
                "microdollars": 0,
            },
        )
        for name, count in _counts(tokens).items():
            row[name] += count
        row["cache_read_input_tokens"] += _cached(tokens)
        row["api_requests"] += 1
        row["successful_requests"] += 1
        row["microdollars"] += charge.cost_microdollars
    return [rows[key] for key in sorted(rows)]


def provider_of(call: Call) -> str:
    """Return LiteLLM's name of the provider."""
    host = urlsplit(call.origin).hostname or ""
    return "azure" if host.endswith(_AZURE) else "openai"


def _model(charge: Charge) -> str:
    return _text(charge.usage.model or charge.call.model)


def _counts(tokens: Tokens) -> dict[str, int]:
    read = tokens.text_in + tokens.audio_in + tokens.image_in + _cached(tokens)
    return {
        "prompt_tokens": min(read, _MAX_INT),
        "completion_tokens": min(tokens.text_out + tokens.audio_out, _MAX_INT),
    }


def _cached(tokens: Tokens) -> int:
    return tokens.cached_text_in + tokens.cached_audio_in + tokens.cached_image_in


def _metadata(charge: Charge) -> Row:
    """Return what LiteLLM's pages show of a row beside its columns."""
    payer, tokens = charge.call.payer, charge.usage.tokens
    return {
        "status": "success",
        "user_api_key": payer.key_hash,
        "user_api_key_alias": _text(payer.key_alias),
        "user_api_key_team_id": _text(payer.team_id),
        "user_api_key_user_id": _text(payer.user_id),
        "user_api_key_org_id": _text(payer.organization_id),
        "user_api_key_project_id": _text(payer.project_id),
        "additional_usage_values": {
            "cache_read_input_tokens": _cached(tokens),
            "prompt_tokens_details": {
                "text_tokens": tokens.text_in + tokens.cached_text_in,
                "audio_tokens": tokens.audio_in + tokens.cached_audio_in,
                "image_tokens": tokens.image_in + tokens.cached_image_in,
                "cached_tokens": _cached(tokens),
            },
            "completion_tokens_details": {
                "text_tokens": tokens.text_out,
                "audio_tokens": tokens.audio_out,
            },
        },
        "spend_logs_metadata": {
            "ringback": {"kind": charge.usage.kind, "seconds": tokens.seconds},
        },
    }


def _naive(at: float) -> str:
    """Return a time as LiteLLM's columns hold it: UTC without a time zone, in milliseconds."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _text(value: str | None) -> str:
    """Return a text that Postgres takes: it has no NUL and no half characters."""
    clean = (value or "").replace("\0", "")
    return clean.encode("utf-8", "replace").decode()


def to_json(rows: Iterable[Row]) -> str:
    """Return rows for ``jsonb_to_recordset``; doubles keep every digit."""
    return json.dumps(list(rows))
