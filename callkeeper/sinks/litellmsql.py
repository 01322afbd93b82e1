"""The statements that raise spend in LiteLLM's tables, for the columns that there are. Pure."""

from collections.abc import Mapping
from typing import Final

# Names of columns by table, as far as both are there and may be read.
Columns = Mapping[str, frozenset[str]]

_LOGS: Final = "LiteLLM_SpendLogs"
_MEMBERS: Final = "LiteLLM_TeamMembership"
ORGANIZATION_MEMBERS: Final = "LiteLLM_OrganizationMembership"
WINDOWS: Final = "LiteLLM_BudgetWindowSpend"
OWNERS: Final = {"key": "LiteLLM_VerificationToken", "team": "LiteLLM_TeamTable"}
# Daily tables, and whom they are about.
DAILY: Final = {
    "LiteLLM_DailyUserSpend": "user_id",
    "LiteLLM_DailyTeamSpend": "team_id",
    "LiteLLM_DailyOrganizationSpend": "organization_id",
    "LiteLLM_DailyEndUserSpend": "end_user",
}
_DAILY_ID: Final = {"LiteLLM_DailyEndUserSpend": "end_user_id"}
_IDS: Final = {
    "LiteLLM_UserTable": "user_id",
    "LiteLLM_EndUserTable": "user_id",
    "LiteLLM_VerificationToken": "token",
    "LiteLLM_TeamTable": "team_id",
    "LiteLLM_OrganizationTable": "organization_id",
    "LiteLLM_ProjectTable": "project_id",
}
# Without these there is nothing to raise, and charges wait until they are there.
NEEDED: Final = (_LOGS, "LiteLLM_UserTable", "LiteLLM_VerificationToken", "LiteLLM_TeamTable")
TABLES: Final = (_LOGS, _MEMBERS, ORGANIZATION_MEMBERS, WINDOWS, *_IDS, *DAILY)

COLUMNS: Final = """
    SELECT table_name::text, array_agg(column_name::text) AS columns
      FROM information_schema.columns
     WHERE table_schema = $1 AND table_name = ANY ($2) GROUP BY table_name"""

# "ringback" in ASCII. LiteLLM's own locks are of four bytes.
TURN: Final = 0x72696E676261636B
TAKE_TURNS: Final = "SELECT pg_advisory_xact_lock($1)"
# For one transaction, since PgBouncer keeps nothing longer. The times are bounds, so that a writer
# that has gone silent does not hold up LiteLLM and the others.
PREPARE: Final = """
    SELECT set_config('search_path', quote_ident($1), true),
           set_config('lock_timeout', '4s', true), set_config('statement_timeout', '8s', true),
           set_config('idle_in_transaction_session_timeout', '10s', true)"""
LOCK_TEAM: Final = "SELECT pg_advisory_xact_lock(hashtext($1))"

_LOG_TYPES: Final = {
    "spend": "float8",
    "total_tokens": "int",
    "prompt_tokens": "int",
    "completion_tokens": "int",
    "startTime": "timestamp",
    "endTime": "timestamp",
    "completionStartTime": "timestamp",
    "metadata": "jsonb",
    "request_tags": "jsonb",
}
_LOG_COLUMNS: Final = (
    *("request_id", "call_type", "api_key", "spend", "total_tokens", "prompt_tokens"),
    *("completion_tokens", "startTime", "endTime", "completionStartTime", "model", "model_id"),
    *("model_group", "custom_llm_provider", "api_base", "user", "team_id", "organization_id"),
    *("end_user", "metadata", "cache_hit", "cache_key", "request_tags", "session_id"),
    *("litellm_call_id", "status"),
)

KNOWN_MEMBERS: Final = f"""
    SELECT team_id, user_id FROM "{_MEMBERS}"
     WHERE (team_id, user_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"""

RAISE_ORGANIZATION_MEMBER: Final = f"""
    UPDATE "{ORGANIZATION_MEMBERS}" SET spend = COALESCE(spend, 0) + $3
     WHERE organization_id = $1 AND user_id = $2"""

LIMITS: Final = {
    kind: f'SELECT "{_IDS[table]}" AS id, budget_limits::text FROM "{table}"'
    f' WHERE "{_IDS[table]}" = ANY ($1) ORDER BY 1'
    for kind, table in OWNERS.items()
}

RAISE_WINDOW: Final = f"""
    UPDATE "{WINDOWS}" SET spend = spend + $5, updated_at = now() AT TIME ZONE 'UTC'
     WHERE entity_type = $1 AND entity_id = $2 AND window_duration = $3 AND window_start >= $4
    RETURNING spend"""

# A new window begins with all that is in the log, as in LiteLLM; this batch is there already.
OPEN_WINDOW: Final = {
    kind: f"""
    INSERT INTO "{WINDOWS}" AS w
        (entity_type, entity_id, window_duration, window_start, spend, updated_at)
    VALUES ($1, $2, $3, $4, GREATEST($5, (
        SELECT COALESCE(sum(spend), 0) FROM "{_LOGS}" WHERE {column} = $2 AND "startTime" >= $4
    )), now() AT TIME ZONE 'UTC')
    ON CONFLICT (entity_type, entity_id, window_duration) DO UPDATE SET
        spend = CASE WHEN w.window_start >= EXCLUDED.window_start - $6::interval
                     THEN w.spend + $5 ELSE EXCLUDED.spend END,
        window_start = GREATEST(w.window_start, EXCLUDED.window_start),
        updated_at = EXCLUDED.updated_at"""
    for kind, column in (("key", "api_key"), ("team", "team_id"))
}


def insert_logs(columns: Columns) -> str:
    """Return the statement that inserts rows, given as JSON, and returns the ids of new ones.

    It must run in turns: see `TAKE_TURNS`.
    """
    names = [name for name in _LOG_COLUMNS if name in columns[_LOGS]]
    quoted = ", ".join(f'"{name}"' for name in names)
    typed = ", ".join(f'"{name}" {_LOG_TYPES.get(name, "text")}' for name in names)
    return f"""
        INSERT INTO "{_LOGS}" ({quoted}) SELECT {quoted}
          FROM jsonb_to_recordset($1::jsonb) AS new({typed})
         WHERE NOT EXISTS (SELECT 1 FROM "{_LOGS}" old WHERE old.request_id = new.request_id)
        ON CONFLICT DO NOTHING RETURNING request_id"""


def raise_spend(table: str, columns: frozenset[str]) -> str:
    """Return the statement that adds $2 to the row with the id $1, if there is one."""
    if table == "LiteLLM_EndUserTable":
        # Whom callers name is nobody that LiteLLM knew before.
        return f"""
            INSERT INTO "{table}" AS t (user_id, spend, blocked) VALUES ($1, $2, false)
            ON CONFLICT (user_id) DO UPDATE SET spend = t.spend + EXCLUDED.spend"""
    also = ""
    if table == OWNERS["key"]:
        also += ", total_spend = total_spend + $2" if "total_spend" in columns else ""
        also += ", last_active = now() AT TIME ZONE 'UTC'" if "last_active" in columns else ""
    return f'UPDATE "{table}" SET spend = spend + $2{also} WHERE "{_IDS[table]}" = $1'


def raise_member(columns: Columns) -> str:
    """Return the statement that adds $3 to a member; LiteLLM's own, for one row."""
    extra = "total_spend" in columns[_MEMBERS]
    return f"""
        INSERT INTO "{_MEMBERS}" AS m (team_id, user_id, spend{", total_spend" if extra else ""})
        SELECT $1::text, $2::text, $3::float8{", $3::float8" if extra else ""}
         WHERE EXISTS (SELECT 1 FROM "{_MEMBERS}" WHERE team_id = $1 AND user_id = $2)
            OR EXISTS (
               SELECT 1 FROM "LiteLLM_TeamTable" WHERE team_id = $1 AND members_with_roles @>
                      jsonb_build_array(jsonb_build_object('user_id', $2::text)))
        ON CONFLICT (user_id, team_id) DO UPDATE SET spend = m.spend + EXCLUDED.spend
            {", total_spend = m.total_spend + EXCLUDED.total_spend" if extra else ""}"""


def raise_daily(table: str, columns: frozenset[str]) -> str:
    """Return the statement that adds a row of `daily_rows` to a daily table.

    In a unique index NULL is never equal to itself, so nothing of the key may be NULL.
    """
    owner = _DAILY_ID.get(table, DAILY[table])
    empty = [name for name in ("mcp_namespaced_tool_name", "endpoint") if name in columns]
    key = [owner, "date", "api_key", "model", "custom_llm_provider"]
    counters = ["prompt_tokens", "completion_tokens", "cache_read_input_tokens", "api_requests"]
    counters += ["successful_requests", "spend"]
    names = ["id", *key, "model_group", *counters, *empty, "updated_at"]
    values = [f"${number + 1}" for number in range(len(key) + len(counters) + 2)]
    values += ["''"] * len(empty) + ["now() AT TIME ZONE 'UTC'"]
    sums = ", ".join(f"{name} = d.{name} + EXCLUDED.{name}" for name in counters)
    return f"""
        INSERT INTO "{table}" AS d ({", ".join(names)}) VALUES ({", ".join(values)})
        ON CONFLICT ({", ".join([*key, *empty])}) DO UPDATE SET
            {sums}, updated_at = EXCLUDED.updated_at"""
