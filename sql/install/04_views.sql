-- Views. Where names of people are shown, the rows come from a function that reads them with the
-- caller's rights; meetlink's own columns come with the view owner's. There an error that ends in the
-- words of a trigger of the application is shown without them: queue and attempts are for operators.

-- Operators and types below are PostgreSQL's, whatever else the target schema holds.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE VIEW meetlink.missing_links AS
SELECT m.session_id, m.booking_id, m.tutor_name, m.student_name, m.scheduled_start_at, m.provider,
       m.join_url, m.meeting_external_id, m.status,
       CASE WHEN h.until IS NOT NULL THEN 'retrying'
            WHEN j.state IS NULL AND EXISTS (SELECT FROM meetlink.inbox i
                                              WHERE i.session_id = m.session_id) THEN 'pending'
            ELSE j.state END AS state,
       COALESCE(j.attempts, 0) AS attempts,
       COALESCE(h.error, CASE WHEN j.reason IN ('write_back', 'session_unfit')
                              THEN pg_catalog.split_part(j.last_error, ': ', 1)
                              ELSE j.last_error END) AS last_error,
       CASE WHEN h.until IS NOT NULL THEN h.until
            WHEN j.state IN ('pending', 'retrying', 'in_doubt') THEN j.due_at END
         AS next_attempt_at
  FROM meetlink.read_missing_sessions() m
  LEFT JOIN meetlink.jobs j ON j.session_id = m.session_id AND j.state NOT IN ('ready', 'not_needed')
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
           (pg_catalog.array_agg(
              CASE WHEN j.reason IN ('write_back', 'session_unfit')
                   THEN pg_catalog.split_part(j.last_error, ': ', 1)
                   ELSE j.last_error END ORDER BY j.changed_at DESC)
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
-- What changed three times is one piece of news. Nobody has looked at it yet: it may turn out to want
-- nothing.
SELECT i.session_id, 'pending', NULL, 0, pg_catalog.min(i.queued_at), NULL, NULL, NULL, NULL, NULL,
       'exists'
  FROM meetlink.inbox i
 WHERE i.session_id IS NOT NULL
   AND NOT EXISTS (SELECT FROM meetlink.jobs j WHERE j.session_id = i.session_id)
 GROUP BY i.session_id;
COMMENT ON VIEW meetlink.queue IS
  'Jobs that are not finished, and sessions not looked at yet: state, attempts, when they are due, and who has them';

CREATE VIEW meetlink.orphans AS
SELECT j.session_id, j.account_id AS tutor_id, j.provider, j.external_id, j.state, j.due_at,
       j.reason, j.last_error
  FROM meetlink.jobs j
 WHERE j.wish = 'gone';
COMMENT ON VIEW meetlink.orphans IS
  'Meetings made (or perhaps made) for sessions that are gone, until they are removed';

CREATE VIEW meetlink.at_risk AS
SELECT r.session_id, r.tutor_id, r.tutor_name, r.scheduled_start_at, k.state,
       CASE WHEN k.reason IS NULL AND NOT r.is_connected THEN 'not_connected'
            WHEN k.state = 'unknown' THEN 'not_queued'
            ELSE k.reason END AS reason,
       CASE WHEN NOT r.is_connected OR k.state = 'needs_action' THEN 'tutor'
            WHEN k.state IN ('unknown', 'failed')
              OR k.reason IN ('oauth_client', 'key_missing', 'token_format', 'misconfigured')
            THEN 'operator'
            ELSE 'meetlink' END AS who_acts
  FROM meetlink.read_at_risk() r
  LEFT JOIN meetlink.jobs j ON j.session_id = r.session_id AND j.state NOT IN ('ready', 'not_needed')
  LEFT JOIN meetlink.holds h
         ON j.state = 'pending' AND h.provider = j.lane AND h.side = 'meetings'
        AND h.tutor_id IS NULL AND h.until > pg_catalog.now()
 CROSS JOIN LATERAL (
   SELECT COALESCE(CASE WHEN h.until IS NOT NULL THEN 'retrying' ELSE j.state END,
                   CASE WHEN NOT r.lacks_link THEN 'ready'
                        WHEN EXISTS (SELECT FROM meetlink.inbox i WHERE i.session_id = r.session_id)
                        THEN 'pending' ELSE 'unknown' END) AS state,
          COALESCE(h.reason, j.reason) AS reason) k
 ORDER BY r.scheduled_start_at, r.session_id;
COMMENT ON VIEW meetlink.at_risk IS
  'Sessions under way or of the next 24 hours without a link, and coming ones whose tutor''s connection is dead';
COMMENT ON COLUMN meetlink.at_risk.who_acts IS
  'tutor, operator, or meetlink: it is at it by itself';

CREATE VIEW meetlink.stats AS
WITH periods (place, period, grain, start) AS (
  VALUES (1, 'hour', 'minute', pg_catalog.date_trunc('minute', pg_catalog.now() - interval '1 hour')),
         (2, 'day', 'hour', pg_catalog.date_trunc('hour', pg_catalog.now() - interval '24 hours', 'UTC')),
         (3, 'month', 'hour',
          pg_catalog.date_trunc('hour', pg_catalog.now() - interval '720 hours', 'UTC'))),
happened AS (
  SELECT p.place, p.period, t.provider, t.what, t.bucket,
         pg_catalog.sum(t.count)::bigint AS count, pg_catalog.sum(t.seconds) AS seconds
    FROM periods p JOIN meetlink.tallies t ON t.grain = p.grain AND t.since >= p.start
   GROUP BY p.place, p.period, t.provider, t.what, t.bucket),
of_providers AS (
  SELECT place, period, COALESCE(NULLIF(provider, ''), 'none') AS provider, what, bucket, count, seconds
    FROM happened
  UNION ALL
  SELECT place, period, 'all', what, bucket, pg_catalog.sum(count)::bigint, pg_catalog.sum(seconds)
    FROM happened GROUP BY place, period, what, bucket
  UNION ALL
  -- There are figures for every period, if only noughts.
  SELECT place, period, 'all', 'session', 0::smallint, 0, 0 FROM periods),
ranked AS (
  SELECT *, pg_catalog.sum(count) FILTER (WHERE what = 'link') OVER w AS up_to,
         pg_catalog.sum(count) FILTER (WHERE what = 'link') OVER (PARTITION BY place, provider) AS links
    FROM of_providers
  WINDOW w AS (PARTITION BY place, provider, what ORDER BY bucket)),
figures AS (
  SELECT place, period, provider,
         pg_catalog.sum(count) FILTER (WHERE what = 'session') AS sessions,
         pg_catalog.sum(count) FILTER (WHERE what = 'link') AS links,
         pg_catalog.sum(count) FILTER (WHERE what NOT IN ('session', 'link', 'made', 'removed'))
           AS failures,
         pg_catalog.sum(count) FILTER (WHERE what = 'made') AS made,
         pg_catalog.sum(seconds) / NULLIF(pg_catalog.sum(count) FILTER (WHERE what = 'link'), 0)
           AS mean,
         pg_catalog.min(bucket) FILTER (WHERE what = 'link' AND up_to >= 0.50 * links) AS b50,
         pg_catalog.min(bucket) FILTER (WHERE what = 'link' AND up_to >= 0.95 * links) AS b95,
         pg_catalog.min(bucket) FILTER (WHERE what = 'link' AND up_to >= 0.99 * links) AS b99
    FROM ranked GROUP BY place, period, provider)
SELECT f.period, f.provider, COALESCE(f.sessions, 0)::bigint AS sessions,
       COALESCE(f.links, 0)::bigint AS links, COALESCE(f.failures, 0)::bigint AS failures,
       pg_catalog.round(100.0 * COALESCE(f.made, 0)
                        / NULLIF(COALESCE(f.made, 0) + COALESCE(f.failures, 0), 0), 1) AS success_rate,
       -- As many digits as one can use: 0.087, 12.3, 4711.
       pg_catalog.round(f.mean::numeric, s.digits[1]) AS mean,
       pg_catalog.round(s.seconds[2]::numeric, s.digits[2]) AS p50,
       pg_catalog.round(s.seconds[3]::numeric, s.digits[3]) AS p95,
       pg_catalog.round(s.seconds[4]::numeric, s.digits[4]) AS p99
  FROM figures f
 CROSS JOIN LATERAL (
   SELECT pg_catalog.array_agg(u.seconds ORDER BY u.place) AS seconds,
          pg_catalog.array_agg(CASE WHEN u.seconds < 10 THEN 3 WHEN u.seconds < 1000 THEN 1 ELSE 0 END
                               ORDER BY u.place) AS digits
     FROM (VALUES (1, f.mean), (2, 0.001 * pg_catalog.power(1.05, f.b50 - 0.5)),
                  (3, 0.001 * pg_catalog.power(1.05, f.b95 - 0.5)),
                  (4, 0.001 * pg_catalog.power(1.05, f.b99 - 0.5))) u(place, seconds)) s
 ORDER BY f.place, f.provider <> 'all', f.provider;
COMMENT ON VIEW meetlink.stats IS
  'The last hour (by minutes), 24 hours and 30 days (by hours), by provider and in all';
COMMENT ON COLUMN meetlink.stats.sessions IS
  'Sessions that came without a link, by the provider that they named';
COMMENT ON COLUMN meetlink.stats.links IS 'Links written';
COMMENT ON COLUMN meetlink.stats.failures IS 'Attempts that failed, whatever became of them later';
COMMENT ON COLUMN meetlink.stats.success_rate IS 'Percentage of attempts that made a meeting';
COMMENT ON COLUMN meetlink.stats.mean IS 'Mean seconds from session to link';
COMMENT ON COLUMN meetlink.stats.p50 IS 'Half of the links came within so many seconds; +-2.5 percent';
COMMENT ON COLUMN meetlink.stats.p95 IS 'The same for 95 of 100 links';
COMMENT ON COLUMN meetlink.stats.p99 IS 'The same for 99 of 100 links';

CREATE VIEW meetlink.metrics AS
WITH counted AS (
  SELECT k.provider, k.what, k.bucket, pg_catalog.sum(k.count) AS count,
         pg_catalog.sum(k.seconds) AS seconds
    FROM (SELECT COALESCE(NULLIF(t.provider, ''), 'none') AS provider, t.what, t.bucket, t.count,
                 t.seconds
            FROM meetlink.tallies t WHERE t.grain = 'hour'
          UNION ALL
          -- A counter that is first seen with 1 has not risen: each is there from the beginning.
          SELECT p.provider, w.what, 0, 0, 0
            FROM meetlink.providers p, (VALUES ('session'), ('link'), ('made'), ('removed'),
                   ('retry'), ('retry_after'), ('refresh_token'), ('tutor_must_act'),
                   ('operator_must_act'), ('permanent'), ('in_doubt')) w(what)) k
   GROUP BY k.provider, k.what, k.bucket),
bounds (le, least) AS (
  VALUES (0.05, '0.05'), (0.1, '0.1'), (0.25, '0.25'), (0.5, '0.5'), (1, '1'), (2.5, '2.5'),
         (5, '5'), (10, '10'), (30, '30'), (60, '60'), (300, '300'), (3600, '3600'),
         ('Infinity'::float8, '+Inf'))
SELECT 'meetlink_sessions_total' AS name, pg_catalog.jsonb_build_object('provider', provider) AS labels,
       pg_catalog.sum(count)::double precision AS value
  FROM counted WHERE what = 'session' GROUP BY provider
UNION ALL
SELECT 'meetlink_attempts_total',
       pg_catalog.jsonb_build_object('provider', provider, 'class', what), count
  FROM counted WHERE what NOT IN ('session', 'link')
UNION ALL
SELECT 'meetlink_link_seconds_bucket',
       pg_catalog.jsonb_build_object('provider', c.provider, 'le', b.least),
       COALESCE(pg_catalog.sum(c.count) FILTER
         (WHERE 0.001 * pg_catalog.power(1.05, c.bucket) <= b.le), 0)
  FROM counted c CROSS JOIN bounds b WHERE c.what = 'link' GROUP BY c.provider, b.least
UNION ALL
SELECT 'meetlink_link_seconds_sum', pg_catalog.jsonb_build_object('provider', provider),
       pg_catalog.sum(seconds)
  FROM counted WHERE what = 'link' GROUP BY provider
UNION ALL
SELECT 'meetlink_link_seconds_count', pg_catalog.jsonb_build_object('provider', provider),
       pg_catalog.sum(count)
  FROM counted WHERE what = 'link' GROUP BY provider
UNION ALL
SELECT 'meetlink_open_jobs', pg_catalog.jsonb_build_object('state', s.state),
       pg_catalog.count(j.session_id)
  FROM (VALUES ('pending'), ('creating'), ('retrying'), ('needs_action'), ('in_doubt'), ('failed'))
         s(state)
  LEFT JOIN meetlink.jobs j ON j.state = s.state AND j.state NOT IN ('ready', 'not_needed')
 GROUP BY s.state
UNION ALL
SELECT 'meetlink_inbox', '{}', pg_catalog.count(*) FROM meetlink.inbox
UNION ALL
SELECT 'meetlink_orphans', '{}', pg_catalog.count(*) FROM meetlink.jobs WHERE wish = 'gone'
UNION ALL
SELECT 'meetlink_overdue_seconds', '{}',
       COALESCE(greatest(extract(epoch FROM pg_catalog.now() - pg_catalog.min(j.due_at)), 0), 0)
  FROM meetlink.jobs j
 WHERE j.state IN ('pending', 'retrying', 'in_doubt') AND pg_catalog.isfinite(j.due_at)
UNION ALL
SELECT 'meetlink_provider_held', pg_catalog.jsonb_build_object('provider', p.provider, 'side', s.side),
       pg_catalog.count(h.provider)
  FROM meetlink.providers p CROSS JOIN (VALUES ('meetings'), ('tokens')) s(side)
  LEFT JOIN meetlink.holds h ON h.provider = p.provider AND h.side = s.side AND h.tutor_id IS NULL
        AND h.until > pg_catalog.now()
 GROUP BY p.provider, s.side
UNION ALL
SELECT 'meetlink_notifications_open', pg_catalog.jsonb_build_object('kind', k.kind),
       pg_catalog.count(n.id)
  FROM (VALUES ('connect'), ('reconnect'), ('failed'), ('operator')) k(kind)
  LEFT JOIN meetlink.notifications n ON n.kind = k.kind AND n.resolved_at IS NULL
 GROUP BY k.kind
UNION ALL
SELECT 'meetlink_worker_up', '{}', pg_catalog.count(*) FILTER (WHERE w.state IN ('idle', 'busy'))
  FROM meetlink.read_worker() w
UNION ALL
SELECT 'meetlink_worker_start_time_seconds', '{}',
       COALESCE(pg_catalog.max(extract(epoch FROM w.started_at)), 0)
  FROM meetlink.read_worker() w
UNION ALL
SELECT 'meetlink_requests_in_flight', '{}', COALESCE(pg_catalog.sum(w.in_flight), 0)
  FROM meetlink.read_worker() w;
COMMENT ON VIEW meetlink.metrics IS
  'Figures for monitoring, named as Prometheus does; monitoring/ has them ready for its exporters';

CREATE VIEW meetlink.workers AS
SELECT w.pid, w.started_at, w.state, w.in_flight, w.last_error FROM meetlink.read_worker() w;
COMMENT ON VIEW meetlink.workers IS
  'The worker of this database: no row or state "absent" means that there is none';

COMMENT ON COLUMN meetlink.missing_links.state IS
  'NULL: not queued yet (meetlink_create_missing queues it)';
