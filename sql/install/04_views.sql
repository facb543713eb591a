-- Views. Where names of people are shown, the rows come from a function that reads them with the
-- caller's rights; meetlink's own columns come with the view owner's.

-- Operators and types below are PostgreSQL's, whatever else the target schema holds.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE VIEW meetlink.missing_links AS
SELECT m.session_id, m.booking_id, m.tutor_name, m.student_name, m.scheduled_start_at, m.provider,
       m.join_url, m.meeting_external_id, m.status,
       CASE WHEN h.until IS NULL THEN j.state ELSE 'retrying' END AS state,
       COALESCE(j.attempts, 0) AS attempts, COALESCE(h.error, j.last_error) AS last_error,
       CASE WHEN h.until IS NOT NULL THEN h.until
            WHEN j.state IN ('pending', 'retrying', 'in_doubt') THEN j.due_at END
         AS next_attempt_at
  FROM meetlink.read_missing_sessions() m
  LEFT JOIN meetlink.jobs j ON j.session_id = m.session_id
  -- A job that was never tried waits with its provider, if that must not be called just now.
  LEFT JOIN meetlink.holds h
         ON j.state = 'pending' AND h.provider = j.lane AND h.side = 'meetings'
        AND h.tutor_id IS NULL AND h.until > pg_catalog.now()
 ORDER BY m.scheduled_start_at, m.session_id;
COMMENT ON VIEW meetlink.missing_links IS
  'Coming sessions without a link, soonest first, and how far meetlink is with each';

CREATE VIEW meetlink.tutor_connections AS
SELECT t.id, t.full_name, t.email, t.provider, t.connection_status, t.token_expires_at,
       COALESCE(w.waiting, 0) AS waiting_sessions, w.last_error
  FROM meetlink.read_tutors() t
  LEFT JOIN (
    SELECT j.tutor_id, pg_catalog.count(*) AS waiting,
           (pg_catalog.array_agg(j.last_error ORDER BY j.changed_at DESC)
             FILTER (WHERE j.last_error IS NOT NULL))[1] AS last_error
      FROM meetlink.jobs j
      -- Only sessions that the caller may see: a student is not to learn of another's.
      JOIN meetlink.read_visible(ARRAY(
             SELECT w.session_id FROM meetlink.jobs w
              WHERE w.state IN ('pending', 'creating', 'retrying', 'needs_action', 'in_doubt')))
           AS v(session_id) ON v.session_id = j.session_id
     GROUP BY j.tutor_id) w ON w.tutor_id = t.id
 ORDER BY t.full_name, t.id;
COMMENT ON VIEW meetlink.tutor_connections IS
  'Every tutor, connected or not, with the number of sessions that wait and the last trouble';

CREATE VIEW meetlink.queue AS
SELECT j.session_id, CASE WHEN h.until IS NULL THEN j.state ELSE 'retrying' END AS state,
       COALESCE(j.provider, h.provider) AS provider, j.attempts,
       COALESCE(h.until, j.due_at) AS due_at, j.lease_holder, j.lease_until, j.starts_at,
       COALESCE(h.reason, j.reason) AS reason, COALESCE(h.error, j.last_error) AS last_error, j.wish
  FROM meetlink.jobs j
  LEFT JOIN meetlink.holds h
         ON j.state = 'pending' AND h.provider = j.lane AND h.side = 'meetings'
        AND h.tutor_id IS NULL AND h.until > pg_catalog.now()
 WHERE j.state IN ('pending', 'creating', 'retrying', 'needs_action', 'in_doubt', 'failed')
UNION ALL
SELECT i.session_id, 'pending', NULL, 0, i.queued_at, NULL, NULL, NULL, NULL, NULL, 'exists'
  FROM meetlink.inbox i
 WHERE i.session_id IS NOT NULL
   AND NOT EXISTS (SELECT FROM meetlink.jobs j WHERE j.session_id = i.session_id);
COMMENT ON VIEW meetlink.queue IS
  'Jobs that are not finished: state, attempts, when they are due, and who has them';

CREATE VIEW meetlink.orphans AS
SELECT j.session_id, j.account_id AS tutor_id, j.provider, j.external_id, j.state, j.due_at,
       j.reason, j.last_error
  FROM meetlink.jobs j
 WHERE j.wish = 'gone';
COMMENT ON VIEW meetlink.orphans IS
  'Meetings made (or perhaps made) for sessions that are gone, until they are removed';

CREATE VIEW meetlink.workers AS
SELECT w.pid, w.started_at, w.state, w.in_flight, w.last_error FROM meetlink.read_worker() w;
COMMENT ON VIEW meetlink.workers IS
  'The worker of this database: no row or state "absent" means that there is none';

COMMENT ON COLUMN meetlink.missing_links.state IS
  'NULL: not queued yet (meetlink_create_missing queues it)';
