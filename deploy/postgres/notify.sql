-- Triggers that tell Ringback (database.notify: true) what changes in LiteLLM's tables, so that a
-- blocked key is refused at once and not when it is next looked up.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/notify.sql
--
-- Run it as the owner of LiteLLM's tables, and again after an upgrade of LiteLLM. To take it back:
-- DROP FUNCTION ringback_changed, ringback_matters CASCADE;
--
-- The channel is ringback_keys. The payload is the hash of a key, or the name of a table that many
-- keys depend on. What LiteLLM books with every request is told only when the row's own max_budget
-- is used up by it, or freed.
BEGIN;
-- At the first run there is nothing to drop, which would fill the terminal with notices.
SET LOCAL client_min_messages TO warning;

CREATE OR REPLACE FUNCTION ringback_matters(before jsonb, after jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT before - booked IS DISTINCT FROM after - booked
      OR COALESCE((after ->> 'spend')::float8 < (before ->> 'spend')::float8, false)
      -- NULL where the row itself has no budget, and nothing that is booked matters at once.
      OR COALESCE(sign((before ->> 'spend')::float8 - (after ->> 'max_budget')::float8)
                  <> sign((after ->> 'spend')::float8 - (after ->> 'max_budget')::float8), false)
    FROM (VALUES (ARRAY['spend', 'total_spend', 'model_spend', 'updated_at', 'updated_by',
                        'last_active', 'settings_updated_at', 'soft_budget_cooldown',
                        'budget_reset_at'])) AS v (booked)
$$;

CREATE OR REPLACE FUNCTION ringback_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  hash text;
BEGIN
  IF TG_OP = 'UPDATE' AND NOT ringback_matters(to_jsonb(OLD), to_jsonb(NEW)) THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'TRUNCATE'
     OR TG_TABLE_NAME NOT IN ('LiteLLM_VerificationToken', 'LiteLLM_DeprecatedVerificationToken')
  THEN
    PERFORM pg_notify('ringback_keys', TG_TABLE_NAME);
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify('ringback_keys', OLD.token);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_notify('ringback_keys', NEW.token);
  END IF;
  -- Keys in their time of grace stand for this one.
  IF TG_TABLE_NAME = 'LiteLLM_VerificationToken' AND TG_OP <> 'INSERT' AND
     to_regclass(format('%I."LiteLLM_DeprecatedVerificationToken"', TG_TABLE_SCHEMA)) IS NOT NULL
  THEN
    FOR hash IN EXECUTE format(
      'SELECT token FROM %I."LiteLLM_DeprecatedVerificationToken" WHERE active_token_id = $1',
      TG_TABLE_SCHEMA) USING OLD.token
    LOOP
      PERFORM pg_notify('ringback_keys', hash);
    END LOOP;
  END IF;
  RETURN NULL;
END
$$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'LiteLLM_VerificationToken', 'LiteLLM_DeprecatedVerificationToken', 'LiteLLM_BudgetTable',
    'LiteLLM_TeamTable', 'LiteLLM_ModelTable', 'LiteLLM_TeamMembership', 'LiteLLM_UserTable',
    'LiteLLM_OrganizationTable', 'LiteLLM_ProjectTable', 'LiteLLM_AccessGroupTable']
  LOOP
    CONTINUE WHEN to_regclass(format('%I', name)) IS NULL;
    EXECUTE format('DROP TRIGGER IF EXISTS ringback_changed ON %I', name);
    EXECUTE format('CREATE TRIGGER ringback_changed AFTER INSERT OR UPDATE OR DELETE ON %I '
                   'FOR EACH ROW EXECUTE FUNCTION ringback_changed()', name);
    EXECUTE format('DROP TRIGGER IF EXISTS ringback_emptied ON %I', name);
    EXECUTE format('CREATE TRIGGER ringback_emptied AFTER TRUNCATE ON %I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ringback_changed()', name);
  END LOOP;
END
$$;

COMMIT;
