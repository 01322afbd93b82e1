-- The role with which Ringback reads LiteLLM's database: what a key's limits are made of, and
-- nothing else; no password of a user, no provider's key, no log.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/role.sql
--   psql "$DATABASE_URL" -c '\password ringback'
--
-- Run it as the owner of LiteLLM's tables or as superuser, and again after an upgrade of LiteLLM:
-- tables and columns that are not there yet are passed over. Tables in another schema than public:
-- PGOPTIONS='-c search_path=NAME' in front of psql.
DO $$
DECLARE
  wanted record;
  names text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ringback') THEN
    CREATE ROLE ringback LOGIN;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO ringback', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO ringback', current_schema());
  FOR wanted IN SELECT * FROM (VALUES
    ('LiteLLM_AccessGroupTable',
     '{access_group_id, access_model_names, assigned_key_ids, assigned_team_ids}'),
    ('LiteLLM_BudgetTable',
     '{allowed_models, budget_id, max_budget, model_max_budget, rpm_limit,
       temp_budget_expiry, temp_budget_increase}'),
    ('LiteLLM_BudgetWindowSpend',
     '{entity_id, entity_type, spend, window_duration, window_start}'),
    ('LiteLLM_DeprecatedVerificationToken',
     '{active_token_id, revoke_at, token}'),
    ('LiteLLM_ModelTable',
     '{aliases, id}'),
    ('LiteLLM_OrganizationTable',
     '{budget_id, organization_id, spend}'),
    ('LiteLLM_ProjectTable',
     '{blocked, budget_id, model_rpm_limit, models, project_id, spend}'),
    ('LiteLLM_TeamMembership',
     '{budget_id, spend, team_id, user_id}'),
    ('LiteLLM_TeamTable',
     '{access_group_ids, blocked, budget_limits, max_budget, metadata, model_id,
       models, organization_id, rpm_limit, spend, team_id}'),
    ('LiteLLM_UserTable',
     '{max_budget, metadata, models, rpm_limit, spend, user_id}'),
    ('LiteLLM_VerificationToken',
     '{access_group_ids, aliases, allowed_routes, blocked, budget_id, budget_limits,
       expires, key_alias, key_name, max_budget, max_parallel_requests, metadata,
       model_max_budget, models, organization_id, project_id, rpm_limit, spend,
       team_id, token, user_id}')
  ) AS w (tablename, columns)
  LOOP
    SELECT string_agg(format('%I', attname), ', ') INTO names
      FROM pg_attribute
     WHERE attrelid = to_regclass(format('%I.%I', current_schema(), wanted.tablename))
       AND attname = ANY (wanted.columns::text[]) AND attnum > 0 AND NOT attisdropped;
    IF names IS NOT NULL THEN
      EXECUTE format('GRANT SELECT (%s) ON %I.%I TO ringback',
                     names, current_schema(), wanted.tablename);
    END IF;
  END LOOP;
END
$$;
