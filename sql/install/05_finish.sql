-- Privileges are none until granted (README says which), but for monitoring, which is the same
-- everywhere: ids, states, times and numbers. Not names, links or tokens; not the numbers of meetings
-- (orphans, jobs), with which a meeting can be entered; and not the error texts of queue and ledger,
-- which quote what a trigger or a cast of the application says about one of its rows.
GRANT USAGE ON SCHEMA meetlink TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.meetlink_health(), meetlink.read_worker() TO pg_monitor;
GRANT SELECT ON meetlink.workers, meetlink.holds, meetlink.stats TO pg_monitor;
GRANT SELECT (session_id, state, provider, attempts, due_at, lease_holder, lease_until, starts_at,
              reason, wish)
  ON meetlink.queue TO pg_monitor;
GRANT SELECT (id, session_id, provider, number, started_at, ended_at, class, http_status, code)
  ON meetlink.attempts TO pg_monitor;

-- A worker comes at commit.
SELECT meetlink.announce_extension();
