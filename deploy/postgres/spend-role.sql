-- The role with which Ringback raises spend in LiteLLM's database, and can do nothing else there: it
-- changes columns of spend, adds rows to the log and to the daily tables, and deletes nothing.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/spend-role.sql
--   psql "$DATABASE_URL" -c '\password ringback_spend'
--
-- Run it as role.sql: as the owner of LiteLLM's tables or as superuser, and again after an upgrade of
-- LiteLLM.
DO $$
DECLARE
  wanted record;
  place regclass;
  names text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ringback_spend') THEN
    CREATE ROLE ringback_spend LOGIN;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO ringback_spend', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO ringback_spend', current_schema());
  -- The last column: whether rows are added, too.
  FOR wanted IN SELECT * FROM (VALUES
    ('LiteLLM_SpendLogs', '{request_id, spend, api_key, team_id, startTime}', '{}', true),
    ('LiteLLM_VerificationToken', '{token, spend, total_spend, budget_limits}',
     '{spend, total_spend, last_active}', false),
    ('LiteLLM_UserTable', '{user_id, spend}', '{spend}', false),
    ('LiteLLM_TeamTable', '{team_id, spend, budget_limits, members_with_roles}', '{spend}', false),
    ('LiteLLM_TeamMembership', '{team_id, user_id, spend, total_spend}', '{spend, total_spend}', true),
    ('LiteLLM_OrganizationTable', '{organization_id, spend}', '{spend}', false),
    ('LiteLLM_OrganizationMembership', '{organization_id, user_id, spend}', '{spend}', false),
    ('LiteLLM_ProjectTable', '{project_id, spend}', '{spend}', false),
    ('LiteLLM_EndUserTable', '{user_id, spend}', '{spend}', true),
    ('LiteLLM_BudgetWindowSpend', NULL, '{spend, window_start, updated_at}', true),
    ('LiteLLM_DailyUserSpend', NULL, NULL, true),
    ('LiteLLM_DailyTeamSpend', NULL, NULL, true),
    ('LiteLLM_DailyOrganizationSpend', NULL, NULL, true),
    ('LiteLLM_DailyEndUserSpend', NULL, NULL, true)
  ) AS w (tablename, reads, changes, adds)
  LOOP
    place := to_regclass(format('%I.%I', current_schema(), wanted.tablename));
    CONTINUE WHEN place IS NULL;
    IF wanted.adds THEN
      EXECUTE format('GRANT INSERT ON %s TO ringback_spend', place);
    END IF;
    SELECT string_agg(format('%I', attname), ', ') INTO names FROM pg_attribute
     WHERE attrelid = place AND attnum > 0 AND NOT attisdropped
       AND (wanted.reads IS NULL OR attname = ANY (wanted.reads::text[]));
    EXECUTE format('GRANT SELECT (%s) ON %s TO ringback_spend', names, place);
    SELECT string_agg(format('%I', attname), ', ') INTO names FROM pg_attribute
     WHERE attrelid = place AND attnum > 0 AND NOT attisdropped
       AND (wanted.changes IS NULL OR attname = ANY (wanted.changes::text[]));
    IF names IS NOT NULL THEN
      EXECUTE format('GRANT UPDATE (%s) ON %s TO ringback_spend', names, place);
    END IF;
  END LOOP;
END
$$;
