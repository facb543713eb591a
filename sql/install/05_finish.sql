-- ALTER DEFAULT PRIVILEGES applies to what an extension makes, too; Supabase grants everything in
-- schema public to its API's roles so. What a database gives away by default is not for our objects.
DO $$
DECLARE
  command text;
BEGIN
  FOR command IN
    SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', o.kind, o.name,
             CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
      FROM pg_catalog.pg_depend d
      JOIN (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass AS class, oid, 'FUNCTION' AS kind,
                   oid::pg_catalog.regprocedure::text AS name, proowner AS owner, proacl AS acl
              FROM pg_catalog.pg_proc
            UNION ALL
            SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, oid,
                   CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                   oid::pg_catalog.regclass::text, relowner, relacl
              FROM pg_catalog.pg_class
            UNION ALL
            SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, 'SCHEMA',
                   pg_catalog.quote_ident(nspname), nspowner, nspacl
              FROM pg_catalog.pg_namespace) o ON o.class = d.classid AND o.oid = d.objid
     CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
     WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
       AND d.refobjid = (SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname = 'meetlink')
       AND a.grantee <> o.owner
     GROUP BY 1
  LOOP
    EXECUTE command;
  END LOOP;
END $$;

-- Privileges are none until granted (README says which), but for monitoring, which is the same
-- everywhere: ids, states, times and numbers. Not names, links or tokens; not the numbers of meetings
-- (orphans, jobs), with which a meeting can be entered; and not the error texts of queue and ledger,
-- which quote what a trigger or a cast of the application says about one of its rows.
GRANT USAGE ON SCHEMA meetlink TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.meetlink_health(), meetlink.read_worker() TO pg_monitor;
GRANT SELECT ON meetlink.workers, meetlink.holds, meetlink.stats, meetlink.metrics TO pg_monitor;
GRANT SELECT (session_id, state, provider, attempts, due_at, lease_holder, lease_until, starts_at,
              reason, wish)
  ON meetlink.queue TO pg_monitor;
GRANT SELECT (id, session_id, provider, number, started_at, ended_at, class, http_status, code)
  ON meetlink.attempts TO pg_monitor;

-- A worker comes at commit.
SELECT meetlink.announce_extension();
