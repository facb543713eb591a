-- No pipeline: the least that a trigger in plpgsql with a logged queue table can do.
CREATE TABLE plain_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                          session_id uuid NOT NULL, due_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON plain_queue (due_at);

CREATE FUNCTION peer_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO plain_queue (session_id) VALUES (NEW.id);
  RETURN NULL;
END $$;

CREATE FUNCTION peer_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO plain_queue (session_id) SELECT id FROM added;
  RETURN NULL;
END $$;
