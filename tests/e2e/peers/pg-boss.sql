-- As pg-boss's page "Job table" has it ("even using triggers"), and the notification that its own
-- insert sends to a queue with notify.
CREATE FUNCTION peer_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO pgboss.job (name, data) VALUES ('link', jsonb_build_object('id', NEW.id));
  PERFORM pg_notify('pgboss_' || left(encode(sha224('pgboss'), 'hex'), 24), 'link');
  RETURN NULL;
END $$;

CREATE FUNCTION peer_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO pgboss.job (name, data) SELECT 'link', jsonb_build_object('id', id) FROM added;
  PERFORM pg_notify('pgboss_' || left(encode(sha224('pgboss'), 'hex'), 24), 'link');
  RETURN NULL;
END $$;
