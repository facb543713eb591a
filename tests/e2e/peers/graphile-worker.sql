-- As graphile-worker's page "Adding jobs through SQL" has it; its rights too (SECURITY DEFINER).
CREATE FUNCTION peer_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM graphile_worker.add_job('link', json_build_object('id', NEW.id));
  RETURN NULL;
END $$;

-- For many rows a statement: its bulk function.
CREATE FUNCTION peer_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM graphile_worker.add_jobs(array_agg(
    ROW('link', json_build_object('id', id), NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec))
    FROM added;
  RETURN NULL;
END $$;
