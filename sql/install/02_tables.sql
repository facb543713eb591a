-- Tables of meetlink's own. None refers to a table of the application: those may be dropped,
-- renamed or restored at any time.

-- Operators and types below are PostgreSQL's, whatever else the target schema holds.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE TABLE meetlink.config (
  singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  sessions     regclass NOT NULL,
  connections  regclass NOT NULL,
  profiles     regclass,
  notifications regclass,
  columns      jsonb NOT NULL CHECK (pg_catalog.jsonb_typeof(columns) = 'object'),
  options      jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(options) = 'object'),
  paused       boolean NOT NULL DEFAULT false,
  attached_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
) USING heap;
COMMENT ON TABLE meetlink.config IS
  'The mapping to the application''s tables (one row, written by meetlink_attach)';

-- Apart from the mapping, so that detaching and attaching anew does not make a copy an original.
CREATE TABLE meetlink.home (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  system    text NOT NULL,
  database  oid NOT NULL,
  timeline  bigint NOT NULL,
  backup    text NOT NULL,
  went_back boolean NOT NULL DEFAULT false
) USING heap;
COMMENT ON TABLE meetlink.home IS
  'Where meetlink may call providers: in a copy restored elsewhere it waits for meetlink_resume()';
COMMENT ON COLUMN meetlink.home.system IS 'System identifier of the cluster';
COMMENT ON COLUMN meetlink.home.database IS 'Oid of the database';
COMMENT ON COLUMN meetlink.home.timeline IS
  'Timeline of the cluster when a worker last began its work';
COMMENT ON COLUMN meetlink.home.backup IS
  'Digest of the label of the base backup that the cluster was started from; empty: from none';
COMMENT ON COLUMN meetlink.home.went_back IS
  'The server was restored to an earlier time, and nobody has said yet that meetings may be made';

CREATE TABLE meetlink.pause (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  since     timestamptz NOT NULL DEFAULT pg_catalog.now(),
  by_role   name NOT NULL DEFAULT SESSION_USER
) USING heap;
COMMENT ON TABLE meetlink.pause IS
  'Holds a row while meetlink_pause() keeps the worker out of this database';

CREATE TABLE meetlink.providers (
  provider                text PRIMARY KEY,
  client_id               text NOT NULL CHECK (client_id <> ''),
  client_secret_encrypted text NOT NULL CHECK (client_secret_encrypted LIKE 'ml1.%'),
  options                 jsonb NOT NULL DEFAULT '{}'
                          CHECK (pg_catalog.jsonb_typeof(options) = 'object'),
  configured_at           timestamptz NOT NULL DEFAULT pg_catalog.now()
) USING heap;
COMMENT ON TABLE meetlink.providers IS
  'The operator''s OAuth clients, secrets encrypted (written by meetlink_configure_provider)';

-- Append-only: the trigger adds, the worker takes. No key and no index, so that two transactions
-- that book at the same time never wait for each other here.
CREATE TABLE meetlink.inbox (
  session_id uuid,
  tutor_id   uuid,
  wish       smallint NOT NULL,
  queued_at  timestamptz NOT NULL
) USING heap WITH (
  autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0,
  -- It is empty most of the time: each vacuum would cut it off under a lock that replays on standbys,
  -- and there it waits for whoever reads, or ends a dump.
  vacuum_truncate = off
);
-- Without it a publication FOR ALL TABLES would forbid changes, and replicas could not follow.
ALTER TABLE meetlink.inbox REPLICA IDENTITY FULL;
COMMENT ON TABLE meetlink.inbox IS
  'Sessions and tutors that changed and that the worker has not looked at yet';
COMMENT ON COLUMN meetlink.inbox.wish IS
  '0 changed, 1 wanted (meetlink_create_missing), 2 wanted now (meetlink_retry), 3 connected, 4 the operator changed something, 5 restored: look before creating, 6 and 7 meetlink_resolve: adopt and repost';

CREATE TABLE meetlink.jobs (
  session_id      uuid PRIMARY KEY,
  wish            text NOT NULL DEFAULT 'exists' CHECK (wish IN ('exists', 'moved', 'gone')),
  state           text NOT NULL,
  lane            text NOT NULL DEFAULT '',
  provider        text,
  tutor_id        uuid,
  account_id      uuid,
  starts_at       timestamptz,
  queued_at       timestamptz NOT NULL,
  due_at          timestamptz,
  attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  setbacks        integer NOT NULL DEFAULT 0 CHECK (setbacks >= 0),
  hurried         boolean NOT NULL DEFAULT false,
  news            boolean NOT NULL DEFAULT false,
  adopt           boolean NOT NULL DEFAULT false,
  lease_holder    integer,
  lease_until     timestamptz,
  may_exist_since timestamptz,
  reason          text,
  last_error      text,
  external_id     text,
  join_url        text CHECK (join_url LIKE 'https://%'),
  made_at         timestamptz,
  kept_from       timestamptz,
  kept_to         timestamptz,
  changed_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
  -- A state and what belongs to it stand and fall together.
  CONSTRAINT state_is_known CHECK (state IN
    ('pending', 'creating', 'retrying', 'needs_action', 'in_doubt', 'failed', 'ready',
     'not_needed')),
  CONSTRAINT due_when_waiting CHECK
    ((state IN ('pending', 'retrying', 'in_doubt')) = (due_at IS NOT NULL)),
  CONSTRAINT leased_when_creating CHECK
    ((state = 'creating') = (lease_holder IS NOT NULL)
     AND (lease_holder IS NULL) = (lease_until IS NULL)),
  CONSTRAINT parked_with_a_reason CHECK
    (state NOT IN ('retrying', 'needs_action', 'failed', 'in_doubt') OR reason IS NOT NULL),
  CONSTRAINT doubt_has_a_date CHECK (state <> 'in_doubt' OR may_exist_since IS NOT NULL),
  CONSTRAINT meeting_is_whole CHECK
    ((external_id IS NULL) = (join_url IS NULL) AND (join_url IS NULL) = (made_at IS NULL)),
  CONSTRAINT kept_is_made CHECK
    ((kept_from IS NULL) = (kept_to IS NULL) AND (kept_from IS NULL OR join_url IS NOT NULL)),
  CONSTRAINT meeting_has_a_provider CHECK (join_url IS NULL OR provider IS NOT NULL),
  -- What has to go is, or may be, in somebody's account at some provider.
  CONSTRAINT gone_from_somewhere CHECK
    (wish <> 'gone' OR (provider IS NOT NULL AND account_id IS NOT NULL)),
  CONSTRAINT gone_is_not_ready CHECK (wish <> 'gone' OR state <> 'ready')
) USING heap WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
                   autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE meetlink.jobs IS
  'One row for each session that meetlink has looked at: the state of its meeting';
COMMENT ON COLUMN meetlink.jobs.wish IS
  'exists: a meeting is to be there; moved: it is to follow its session to another time; gone: it is to be removed';
COMMENT ON COLUMN meetlink.jobs.lane IS
  'Provider whose share of the worker''s requests the next attempt is likely to use; empty: unknown';
COMMENT ON COLUMN meetlink.jobs.adopt IS
  'A person says that the meeting exists (meetlink_resolve): no other is made';
COMMENT ON COLUMN meetlink.jobs.kept_from IS
  'Start of the meeting that was made and whose link could not be written into the session yet';
COMMENT ON COLUMN meetlink.jobs.kept_to IS
  'Its end';
COMMENT ON COLUMN meetlink.jobs.may_exist_since IS
  'Set before a request that creates is sent; a meeting may exist although none was seen';
COMMENT ON COLUMN meetlink.jobs.account_id IS
  'Tutor in whose account a meeting was made, or may have been made';
COMMENT ON COLUMN meetlink.jobs.attempts IS
  'Attempts since the job was queued or retried by hand that count towards max_attempts';
COMMENT ON COLUMN meetlink.jobs.setbacks IS
  'Failures in a row, counted or not: what the wait grows with';
COMMENT ON COLUMN meetlink.jobs.hurried IS
  'Somebody asked for a try now, whatever is being waited for';
COMMENT ON COLUMN meetlink.jobs.news IS
  'Session or connection changed while the attempt was under way';
COMMENT ON COLUMN meetlink.jobs.lease_holder IS
  'Pid of the worker that has the job';

-- Soonest session first among those never tried; by due time among those that wait; each lane by
-- itself, so that one whose provider must not be called is not gone through to find the others.
CREATE INDEX jobs_pending ON meetlink.jobs (lane, starts_at, session_id)
  WHERE state = 'pending';
CREATE INDEX jobs_waiting ON meetlink.jobs (lane, due_at)
  WHERE state IN ('retrying', 'in_doubt');
CREATE INDEX jobs_asked ON meetlink.jobs (starts_at)
  WHERE hurried AND state IN ('pending', 'retrying', 'in_doubt');
CREATE INDEX jobs_leased ON meetlink.jobs (session_id) WHERE state = 'creating';
CREATE INDEX jobs_open ON meetlink.jobs (tutor_id) WHERE state NOT IN ('ready', 'not_needed');
CREATE INDEX jobs_orphans ON meetlink.jobs (session_id) WHERE wish = 'gone';
COMMENT ON INDEX meetlink.jobs_pending IS 'Jobs never tried, soonest session of a lane first';
COMMENT ON INDEX meetlink.jobs_waiting IS 'Jobs of a lane that wait for their next try';
COMMENT ON INDEX meetlink.jobs_asked IS 'Jobs that somebody waits for';
COMMENT ON INDEX meetlink.jobs_orphans IS 'Meetings that are to be removed';
COMMENT ON INDEX meetlink.jobs_leased IS 'Jobs that a worker has';
COMMENT ON INDEX meetlink.jobs_open IS 'Jobs that a new connection of their tutor sets going';

CREATE TABLE meetlink.attempts (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  session_id  uuid NOT NULL,
  provider    text,
  number      integer NOT NULL,
  started_at  timestamptz NOT NULL,
  ended_at    timestamptz NOT NULL,
  class       text NOT NULL,
  http_status integer,
  code        text,
  error       text,
  CONSTRAINT done_or_failed CHECK ((class IN ('made', 'removed')) = (error IS NULL))
) USING heap;
CREATE INDEX attempts_session ON meetlink.attempts (session_id, id);
COMMENT ON TABLE meetlink.attempts IS
  'The ledger: one row for each attempt, with its outcome and a plain error';
COMMENT ON SEQUENCE meetlink.attempts_id_seq IS 'Numbers of the ledger''s lines';
COMMENT ON COLUMN meetlink.attempts.class IS
  'made, removed, retry, retry_after, refresh_token, tutor_must_act, operator_must_act, permanent, in_doubt';
COMMENT ON INDEX meetlink.attempts_session IS 'Attempts of one session, in order';

CREATE TABLE meetlink.holds (
  provider text NOT NULL,
  side     text NOT NULL DEFAULT 'meetings' CHECK (side IN ('meetings', 'tokens')),
  tutor_id uuid,
  since    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  until    timestamptz NOT NULL,
  reason   text NOT NULL,
  error    text NOT NULL,
  UNIQUE NULLS NOT DISTINCT (provider, side, tutor_id)
) USING heap;
-- As above.
ALTER TABLE meetlink.holds REPLICA IDENTITY FULL;
COMMENT ON TABLE meetlink.holds IS
  'Providers (or single tutors at one) that must not be called before a given time';
COMMENT ON COLUMN meetlink.holds.side IS
  'meetings: the provider''s API; tokens: its token endpoint alone';

-- Percentiles over months out of a ledger of millions would take seconds: what happens is counted
-- when it happens. A minute's rows are kept for hours, an hour's for weeks.
CREATE TABLE meetlink.tallies (
  grain    text NOT NULL CHECK (grain IN ('minute', 'hour')),
  since    timestamptz NOT NULL,
  provider text NOT NULL,
  what     text NOT NULL,
  bucket   smallint NOT NULL DEFAULT 0,
  count    bigint NOT NULL,
  seconds  double precision NOT NULL DEFAULT 0,
  PRIMARY KEY (grain, since, provider, what, bucket)
) USING heap WITH (fillfactor = 70);
COMMENT ON TABLE meetlink.tallies IS
  'Counts behind meetlink.stats and meetlink.metrics, by minute and by hour (-infinity: everything before)';
COMMENT ON COLUMN meetlink.tallies.provider IS
  'Provider; of sessions: the one that they named; empty: unknown';
COMMENT ON COLUMN meetlink.tallies.what IS
  'session: came without a link; link: written; else the class of an attempt';
COMMENT ON COLUMN meetlink.tallies.bucket IS
  'Of links: their time from session to link, 1 ms times 1.05 to the power of this';
COMMENT ON COLUMN meetlink.tallies.seconds IS
  'Of links: the sum of these times';

-- What people were to be told: one row for a cause, however often it comes up again while it lasts.
CREATE TABLE meetlink.notifications (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tutor_id     uuid,
  session_id   uuid,
  kind         text NOT NULL CHECK (kind IN ('connect', 'reconnect', 'failed', 'operator')),
  provider     text,
  reason       text NOT NULL,
  message      text NOT NULL,
  action       jsonb,
  created_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  delivered_at timestamptz,
  resolved_at  timestamptz,
  CONSTRAINT operators_have_no_tutor CHECK ((kind = 'operator') = (tutor_id IS NULL))
) USING heap;
COMMENT ON TABLE meetlink.notifications IS
  'What tutors and operators were to be told; resolved by itself when the cause is gone';
COMMENT ON SEQUENCE meetlink.notifications_id_seq IS 'Numbers of the notifications';
COMMENT ON COLUMN meetlink.notifications.tutor_id IS 'Who is told; NULL: the operators';
COMMENT ON COLUMN meetlink.notifications.session_id IS
  'Session that could not be had; of a connection: the first one that needed it';
COMMENT ON COLUMN meetlink.notifications.delivered_at IS
  'When it first reached somebody: the application''s own table, the webhook, or a mail server';
CREATE UNIQUE INDEX notifications_open ON meetlink.notifications
  (kind, tutor_id, (CASE WHEN kind = 'failed' THEN session_id END),
   (CASE WHEN kind = 'operator' THEN reason END), (CASE WHEN kind = 'operator' THEN provider END))
  NULLS NOT DISTINCT WHERE resolved_at IS NULL;
CREATE INDEX notifications_tutor ON meetlink.notifications (tutor_id) WHERE resolved_at IS NULL;
COMMENT ON INDEX meetlink.notifications_open IS 'One open notification for a cause';
COMMENT ON INDEX meetlink.notifications_tutor IS 'Open notifications of a tutor';

CREATE TABLE meetlink.deliveries (
  notification_id bigint NOT NULL REFERENCES meetlink.notifications ON DELETE CASCADE,
  channel         text NOT NULL CHECK (channel IN ('application', 'webhook', 'mail')),
  due_at          timestamptz,
  attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  delivered_at    timestamptz,
  last_error      text,
  PRIMARY KEY (notification_id, channel),
  CONSTRAINT delivered_is_done CHECK (delivered_at IS NULL OR due_at IS NULL)
) USING heap WITH (fillfactor = 80);
COMMENT ON TABLE meetlink.deliveries IS
  'Ways on which a notification goes out, and how far it got on each';
COMMENT ON COLUMN meetlink.deliveries.due_at IS
  'Next try; NULL: delivered, given up, or needless since the cause is gone';
CREATE INDEX deliveries_due ON meetlink.deliveries (channel, due_at) WHERE due_at IS NOT NULL;
COMMENT ON INDEX meetlink.deliveries_due IS 'Deliveries that are still to be made';

CREATE TABLE meetlink.mail_templates (
  kind    text PRIMARY KEY CHECK (kind IN ('connect', 'reconnect', 'failed', 'operator')),
  subject text NOT NULL,
  body    text NOT NULL
) USING heap;
COMMENT ON TABLE meetlink.mail_templates IS
  'Texts of mails in place of the built-in ones: {name}, {message}, {link} and {session} are filled in';

SELECT pg_catalog.pg_extension_config_dump('meetlink.mail_templates', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.notifications', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.notifications_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.deliveries', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.tallies', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.config', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.home', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.pause', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.providers', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.inbox', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.jobs', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.attempts', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.attempts_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('meetlink.holds', '');
