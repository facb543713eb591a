-- Functions. The verbs are called meetlink_* and go where CREATE EXTENSION puts them; what they
-- share stands in the schema meetlink. Nobody but the owner may call any of them until it is
-- granted: the REVOKE stands beside each, the grants for the usual roles in README.

-- Where CREATE EXTENSION puts them: 02_tables.sql looked at nothing but pg_catalog.
SET LOCAL search_path = @extschema@, pg_temp;

CREATE FUNCTION meetlink.enqueue() RETURNS trigger
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'meetlink_enqueue';
REVOKE ALL ON FUNCTION meetlink.enqueue() FROM PUBLIC;
COMMENT ON FUNCTION meetlink.enqueue() IS
  'Trigger on the application''s tables: notes a changed session or connection in meetlink.inbox';

-- A restored dump brings a mapping without anybody calling a function.
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON meetlink.config
  FOR EACH STATEMENT EXECUTE FUNCTION meetlink.enqueue('config');
COMMENT ON TRIGGER config_changed ON meetlink.config IS
  'Tells the worker that the mapping changed';

CREATE TRIGGER home_changed AFTER INSERT OR UPDATE OR DELETE ON meetlink.home
  FOR EACH STATEMENT EXECUTE FUNCTION meetlink.enqueue('config');
COMMENT ON TRIGGER home_changed ON meetlink.home IS
  'Tells the worker that it may be at home now, or no longer';

CREATE FUNCTION meetlink_attach(
  sessions regclass DEFAULT pg_catalog.to_regclass('sessions'),
  connections regclass DEFAULT pg_catalog.to_regclass('tutor_video_provider_connections'),
  profiles regclass DEFAULT pg_catalog.to_regclass('profiles'),
  columns jsonb DEFAULT '{}', options jsonb DEFAULT '{}')
  RETURNS jsonb LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_attach_wrapper';
REVOKE ALL ON FUNCTION meetlink_attach(regclass, regclass, regclass, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_attach(regclass, regclass, regclass, jsonb, jsonb) IS
  'Checks the application''s tables, adds the triggers and starts creating links; again: changes the mapping';

CREATE FUNCTION meetlink_detach()
  RETURNS void LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_detach_wrapper';
REVOKE ALL ON FUNCTION meetlink_detach() FROM PUBLIC;
COMMENT ON FUNCTION meetlink_detach() IS
  'Removes the triggers and the mapping; jobs and attempts stay';

CREATE FUNCTION meetlink_configure_provider(
  provider text, client_id text, client_secret text, options jsonb DEFAULT '{}')
  RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_configure_provider_wrapper';
REVOKE ALL ON FUNCTION meetlink_configure_provider(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_configure_provider(text, text, text, jsonb) IS
  'Stores the operator''s OAuth client for a provider, its secret encrypted';

CREATE FUNCTION meetlink_connect(
  tutor_id uuid, provider text, refresh_token text,
  access_token text DEFAULT NULL, expires_at timestamptz DEFAULT NULL)
  RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_connect_wrapper';
REVOKE ALL ON FUNCTION meetlink_connect(uuid, text, text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_connect(uuid, text, text, text, timestamptz) IS
  'Encrypts and stores a tutor''s tokens, and sets the tutor''s waiting sessions going';

CREATE FUNCTION meetlink_disconnect(tutor_id uuid, provider text)
  RETURNS boolean LANGUAGE c VOLATILE CALLED ON NULL INPUT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_disconnect_wrapper';
REVOKE ALL ON FUNCTION meetlink_disconnect(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_disconnect(uuid, text) IS
  'Forgets a tutor''s tokens; false if there was no such connection';

CREATE FUNCTION meetlink_retry(session_id uuid)
  RETURNS jsonb LANGUAGE c VOLATILE CALLED ON NULL INPUT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_retry_wrapper';
REVOKE ALL ON FUNCTION meetlink_retry(uuid) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_retry(uuid) IS
  'Tries a session now, whatever the backoff says; the caller must be allowed to update it';

CREATE FUNCTION meetlink_resolve(session_id uuid, decision text)
  RETURNS jsonb LANGUAGE c VOLATILE CALLED ON NULL INPUT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_resolve_wrapper';
REVOKE ALL ON FUNCTION meetlink_resolve(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_resolve(uuid, text) IS
  'Decides about a session in doubt: adopt (the meeting exists) or repost (it does not)';

CREATE FUNCTION meetlink_rotate_keys(
  max_rows integer DEFAULT 1000,
  OUT what text, OUT reencrypted bigint, OUT remaining bigint, OUT unreadable bigint)
  RETURNS SETOF record LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_rotate_keys_wrapper';
REVOKE ALL ON FUNCTION meetlink_rotate_keys(integer) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_rotate_keys(integer) IS
  'Encrypts ml1 envelopes of older keys with the first key; call again until nothing remains';

CREATE FUNCTION meetlink_adopt_tokens(
  max_rows integer DEFAULT 1000,
  OUT what text, OUT reencrypted bigint, OUT remaining bigint, OUT unreadable bigint)
  RETURNS SETOF record LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_adopt_tokens_wrapper';
REVOKE ALL ON FUNCTION meetlink_adopt_tokens(integer) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_adopt_tokens(integer) IS
  'Encrypts tokens that the application encrypted itself as ml1; call again until nothing remains';

CREATE FUNCTION meetlink_health(
  OUT check_name text, OUT ok boolean, OUT detail text, OUT hint text)
  RETURNS SETOF record LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_health_wrapper';
REVOKE ALL ON FUNCTION meetlink_health() FROM PUBLIC;
COMMENT ON FUNCTION meetlink_health() IS
  'What a person would have to check by hand, a row each, with what to do where it is not well';

CREATE FUNCTION meetlink_create_missing(max_sessions integer DEFAULT NULL)
  RETURNS bigint LANGUAGE c VOLATILE CALLED ON NULL INPUT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_create_missing_wrapper';
REVOKE ALL ON FUNCTION meetlink_create_missing(integer) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_create_missing(integer) IS
  'Queues every session that wants a link and has no job under way, soonest first';

CREATE FUNCTION meetlink_status(session_id uuid)
  RETURNS jsonb LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_status_wrapper';
REVOKE ALL ON FUNCTION meetlink_status(uuid) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_status(uuid) IS
  'State, link, and one plain sentence about a session that the caller can see';

CREATE FUNCTION meetlink_status(session_id uuid, viewer text)
  RETURNS jsonb LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_status_as_wrapper';
REVOKE ALL ON FUNCTION meetlink_status(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_status(uuid, text) IS
  'The same in words for viewer ''tutor'' or ''student''; who is known as the student gets those';

CREATE FUNCTION meetlink_wait(session_id uuid, timeout interval DEFAULT '30 s')
  RETURNS text LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_wait_wrapper';
REVOKE ALL ON FUNCTION meetlink_wait(uuid, interval) FROM PUBLIC;
COMMENT ON FUNCTION meetlink_wait(uuid, interval) IS
  'Returns the link as soon as it is there, NULL when the time is over';

CREATE FUNCTION meetlink_pause()
  RETURNS boolean LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_pause_wrapper';
REVOKE ALL ON FUNCTION meetlink_pause() FROM PUBLIC;
COMMENT ON FUNCTION meetlink_pause() IS
  'Makes the worker let go of this database; sessions are still queued. True if it did not already';

CREATE FUNCTION meetlink_resume()
  RETURNS boolean LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_resume_wrapper';
REVOKE ALL ON FUNCTION meetlink_resume() FROM PUBLIC;
COMMENT ON FUNCTION meetlink_resume() IS
  'Ends a pause; in a restored copy: allows it to call providers. True if that changed anything';

CREATE FUNCTION meetlink.read_missing_sessions(
  OUT session_id uuid, OUT booking_id uuid, OUT tutor_name text, OUT student_name text,
  OUT scheduled_start_at timestamptz, OUT provider text, OUT join_url text,
  OUT meeting_external_id text, OUT status text)
  RETURNS SETOF record LANGUAGE c VOLATILE ROWS 10000
  SET jit = off SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'meetlink_read_missing_sessions';
REVOKE ALL ON FUNCTION meetlink.read_missing_sessions() FROM PUBLIC;
COMMENT ON FUNCTION meetlink.read_missing_sessions() IS
  'Sessions without a link, read with the caller''s own rights; behind meetlink.missing_links';

CREATE FUNCTION meetlink.read_tutors(
  OUT id uuid, OUT full_name text, OUT email text, OUT provider text, OUT connection_status text,
  OUT token_expires_at timestamptz)
  RETURNS SETOF record LANGUAGE c VOLATILE ROWS 10000
  SET jit = off SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'read_tutors_wrapper';
REVOKE ALL ON FUNCTION meetlink.read_tutors() FROM PUBLIC;
COMMENT ON FUNCTION meetlink.read_tutors() IS
  'Tutors and their connections, read with the caller''s own rights; behind tutor_connections';

CREATE FUNCTION meetlink.read_at_risk(
  OUT session_id uuid, OUT tutor_id uuid, OUT tutor_name text, OUT scheduled_start_at timestamptz,
  OUT lacks_link boolean, OUT is_connected boolean)
  RETURNS SETOF record LANGUAGE c VOLATILE ROWS 10000
  SET jit = off SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'read_at_risk_wrapper';
REVOKE ALL ON FUNCTION meetlink.read_at_risk() FROM PUBLIC;
COMMENT ON FUNCTION meetlink.read_at_risk() IS
  'Sessions that may not take place, read with the caller''s own rights; behind meetlink.at_risk';

CREATE FUNCTION meetlink.read_visible(sessions uuid[])
  RETURNS SETOF uuid LANGUAGE c VOLATILE STRICT ROWS 10000
  SET jit = off SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'read_visible_wrapper';
REVOKE ALL ON FUNCTION meetlink.read_visible(uuid[]) FROM PUBLIC;
COMMENT ON FUNCTION meetlink.read_visible(uuid[]) IS
  'Those of the sessions that the caller can see; behind meetlink.tutor_connections';

CREATE FUNCTION meetlink.read_worker(
  OUT pid integer, OUT started_at timestamptz, OUT state text, OUT in_flight integer,
  OUT last_error text)
  RETURNS SETOF record LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'read_worker_wrapper';
REVOKE ALL ON FUNCTION meetlink.read_worker() FROM PUBLIC;
COMMENT ON FUNCTION meetlink.read_worker() IS
  'The worker of this database, from shared memory; behind meetlink.workers';

CREATE FUNCTION meetlink.announce_extension()
  RETURNS void LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
  AS 'MODULE_PATHNAME', 'announce_extension_wrapper';
REVOKE ALL ON FUNCTION meetlink.announce_extension() FROM PUBLIC;
COMMENT ON FUNCTION meetlink.announce_extension() IS
  'Asks for a worker when CREATE EXTENSION commits';
