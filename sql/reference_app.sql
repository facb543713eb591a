-- The reference application: a tutoring marketplace with the tables, constraints, row security and
-- habits that meetlink is made for. For the demo, the tests and newcomers; nothing in meetlink
-- needs it. Run it in an empty database as a superuser.

BEGIN;

-- Supabase's roles and auth.uid(); on a plain Postgres they are created here.
DO $$
BEGIN
  IF pg_catalog.to_regrole('anon') IS NULL THEN CREATE ROLE anon NOLOGIN; END IF;
  IF pg_catalog.to_regrole('authenticated') IS NULL THEN CREATE ROLE authenticated NOLOGIN; END IF;
  IF pg_catalog.to_regrole('service_role') IS NULL THEN
    CREATE ROLE service_role NOLOGIN BYPASSRLS;
  END IF;
  IF pg_catalog.to_regrole('app_owner') IS NULL THEN CREATE ROLE app_owner NOLOGIN; END IF;
END $$;

CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  SELECT NULLIF(pg_catalog.current_setting('request.jwt.claim.sub', true), '')::uuid
$$;
GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, app_owner;
GRANT USAGE, CREATE ON SCHEMA public TO app_owner;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;

SET LOCAL ROLE app_owner;

CREATE TABLE profiles (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  full_name  text,
  email      text,
  role       text NOT NULL DEFAULT 'student'
             CHECK (role IN ('tutor', 'student', 'parent', 'admin')),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE bookings (
  id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tutor_id           uuid NOT NULL REFERENCES profiles,
  student_id         uuid NOT NULL REFERENCES profiles,
  status             text NOT NULL DEFAULT 'PENDING'
                     CHECK (status IN ('PENDING', 'CONFIRMED', 'DECLINED', 'CANCELLED')),
  confirmed_start_at timestamptz,
  confirmed_end_at   timestamptz,
  created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tutor_video_provider_connections (
  id                      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tutor_id                uuid NOT NULL UNIQUE REFERENCES profiles ON DELETE CASCADE,
  provider                text NOT NULL CHECK (provider IN ('google_meet', 'zoom')),
  is_active               boolean NOT NULL DEFAULT true,
  connection_status       text NOT NULL DEFAULT 'connected'
                          CHECK (connection_status IN ('connected', 'needs_reauth', 'disconnected')),
  provider_account_email  text,
  provider_account_name   text,
  access_token_encrypted  text,
  refresh_token_encrypted text,
  token_expires_at        timestamptz,
  created_at              timestamptz NOT NULL DEFAULT now(),
  updated_at              timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sessions (
  id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  booking_id          uuid NOT NULL UNIQUE REFERENCES bookings ON DELETE CASCADE,
  tutor_id            uuid NOT NULL REFERENCES profiles,
  student_id          uuid NOT NULL REFERENCES profiles,
  provider            text NOT NULL CHECK (provider IN ('google_meet', 'zoom')),
  scheduled_start_at  timestamptz NOT NULL,
  scheduled_end_at    timestamptz NOT NULL,
  duration_minutes    integer NOT NULL,
  join_url            text,
  meeting_external_id text,
  meeting_created_at  timestamptz,
  status              text NOT NULL DEFAULT 'SCHEDULED' CHECK (status IN
                        ('SCHEDULED', 'JOIN_OPEN', 'COMPLETED_ASSUMED', 'NO_SHOW_STUDENT',
                         'EARLY_END_SHORT', 'CANCELLED')),
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_tutor ON sessions (tutor_id);
CREATE INDEX sessions_start ON sessions (scheduled_start_at);

CREATE TABLE notifications (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id    uuid NOT NULL REFERENCES profiles ON DELETE CASCADE,
  type       text NOT NULL,
  title      text NOT NULL,
  message    text NOT NULL,
  link       text,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END $$;
CREATE TRIGGER sessions_updated_at BEFORE UPDATE ON sessions
  FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER connections_updated_at BEFORE UPDATE ON tutor_video_provider_connections
  FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- The application's own trigger. It guesses google_meet for a tutor without a connection, and turns
-- any error into a WARNING: an error of ours would cost it the session without a word to anybody.
CREATE FUNCTION auto_create_session_on_confirm() RETURNS trigger
  LANGUAGE plpgsql AS $$
DECLARE
  video_provider text;
BEGIN
  IF NEW.status = 'CONFIRMED' AND (TG_OP = 'INSERT' OR OLD.status IS DISTINCT FROM 'CONFIRMED') THEN
    BEGIN
      SELECT c.provider INTO video_provider
        FROM tutor_video_provider_connections c
       WHERE c.tutor_id = NEW.tutor_id AND c.is_active;
      INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                            scheduled_end_at, duration_minutes)
      VALUES (NEW.id, NEW.tutor_id, NEW.student_id, COALESCE(video_provider, 'google_meet'),
              NEW.confirmed_start_at, NEW.confirmed_end_at,
              (extract(epoch FROM NEW.confirmed_end_at - NEW.confirmed_start_at) / 60)::integer)
      ON CONFLICT (booking_id) DO NOTHING;
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'session for booking % was not created: %', NEW.id, SQLERRM;
    END;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER auto_create_session AFTER INSERT OR UPDATE ON bookings
  FOR EACH ROW EXECUTE FUNCTION auto_create_session_on_confirm();

ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE bookings ENABLE ROW LEVEL SECURITY;
ALTER TABLE tutor_video_provider_connections ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE notifications ENABLE ROW LEVEL SECURITY;

CREATE POLICY profiles_seen ON profiles FOR SELECT TO authenticated USING (
  id = auth.uid() OR EXISTS (
    SELECT FROM bookings b
     WHERE auth.uid() IN (b.tutor_id, b.student_id) AND profiles.id IN (b.tutor_id, b.student_id)));
CREATE POLICY bookings_own ON bookings FOR ALL TO authenticated
  USING (auth.uid() IN (tutor_id, student_id)) WITH CHECK (auth.uid() IN (tutor_id, student_id));
CREATE POLICY connections_own ON tutor_video_provider_connections FOR ALL TO authenticated
  USING (tutor_id = auth.uid()) WITH CHECK (tutor_id = auth.uid());
CREATE POLICY sessions_seen ON sessions FOR SELECT TO authenticated
  USING (auth.uid() IN (tutor_id, student_id));
CREATE POLICY sessions_made ON sessions FOR INSERT TO authenticated
  WITH CHECK (auth.uid() IN (tutor_id, student_id));
CREATE POLICY sessions_changed ON sessions FOR UPDATE TO authenticated
  USING (tutor_id = auth.uid());
CREATE POLICY notifications_own ON notifications FOR SELECT TO authenticated
  USING (user_id = auth.uid());

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO service_role;
GRANT SELECT ON profiles, notifications TO authenticated;
GRANT SELECT, INSERT, UPDATE ON bookings, sessions, tutor_video_provider_connections
  TO authenticated;

COMMIT;
