//! Statements for those who ask about sessions and people.

use super::Mapped;
use crate::domain::mapping::Table;

impl Mapped {
    /// The session as its reader sees it. `$1`: its id.
    pub fn see_session(&self, for_update: bool) -> String {
        format!(
            "SELECT {}, {}, {}, {} FROM {} s WHERE {} = $1{}",
            self.wants(),
            self.lacks_link(),
            self.text("s", Table::Sessions, "join_url"),
            self.text("s", Table::Sessions, "provider"),
            self.sessions,
            self.s("id"),
            // The weakest lock that asks for the right to update; it waits for no write of ours.
            if for_update { " FOR KEY SHARE" } else { "" }
        )
    }

    /// Rows of `meetlink.missing_links` before the state of their jobs is joined.
    pub fn view_missing(&self) -> String {
        let name = |alias| self.text(alias, Table::Profiles, "full_name");
        let profile = |alias| self.or_null(alias, Table::Profiles, "id", "uuid");
        format!(
            "SELECT {id}::uuid, {booking}::uuid, {tname}, {sname}, {start}::timestamptz, \
                    {provider}, {url}, {external}, {status} \
               FROM {sessions} s \
               JOIN {profiles} t ON {tid} = {tutor} \
               {join} {profiles} st ON {sid} = {student} \
              WHERE {lacks} AND {open} AND {start} > pg_catalog.now()",
            id = self.s("id"),
            booking = self.or_null("s", Table::Sessions, "booking_id", "uuid"),
            tname = name("t"),
            sname = name("st"),
            start = self.s("scheduled_start_at"),
            provider = self.text("s", Table::Sessions, "provider"),
            url = self.text("s", Table::Sessions, "join_url"),
            external = self.text("s", Table::Sessions, "meeting_external_id"),
            status = self.text("s", Table::Sessions, "status"),
            sessions = self.sessions,
            profiles = self.profiles,
            tid = profile("t"),
            sid = profile("st"),
            tutor = self.s("tutor_id"),
            student = self.or_null("s", Table::Sessions, "student_id", "uuid"),
            join = match self.config.mapping.column(Table::Sessions, "student_id") {
                Some(_) => "JOIN",
                None => "LEFT JOIN",
            },
            lacks = self.lacks_link(),
            open = self.is_open(),
        )
    }

    /// Coming sessions that lack a link or start within a day, and those under way that lack one,
    /// with their tutors.
    ///
    /// The start is bounded below for the sake of its index: a session that began more than a day
    /// ago is not looked at, whenever it ends.
    pub fn view_coming(&self) -> String {
        format!(
            "SELECT {id}::uuid, {tutor}::uuid, {name}, {start}, {lacks}, \
                    {start} < pg_catalog.now() + interval '24 hours' \
               FROM {sessions} s LEFT JOIN {profiles} t ON {tid} = {tutor} \
              WHERE {open} AND {start} > pg_catalog.now() - interval '24 hours' \
                AND CASE WHEN {start} > pg_catalog.now() \
                         THEN {lacks} OR {start} < pg_catalog.now() + interval '24 hours' \
                         ELSE {lacks} AND {end} > pg_catalog.now() END",
            id = self.s("id"),
            tutor = self.s("tutor_id"),
            name = self.text("t", Table::Profiles, "full_name"),
            start = self.s("scheduled_start_at"),
            end = self.end(),
            lacks = self.lacks_link(),
            sessions = self.sessions,
            profiles = self.profiles,
            tid = self.or_null("t", Table::Profiles, "id", "uuid"),
            open = self.is_open(),
        )
    }

    /// Tutors with a session within a week, and the start of the first.
    pub fn coming_tutors(&self) -> String {
        format!(
            "SELECT {tutor}::uuid, (extract(epoch FROM pg_catalog.min({start})) * 1000000)::bigint \
               FROM {} s WHERE {} AND {start} > pg_catalog.now() \
                AND {start} < pg_catalog.now() + interval '7 days' \
              GROUP BY {tutor}",
            self.sessions,
            self.is_open(),
            tutor = self.s("tutor_id"),
            start = self.s("scheduled_start_at"),
        )
    }

    /// Which of some tutors have a connection that may be used. `$1`: their ids.
    pub fn view_connected(&self) -> String {
        let active = match self.column("c", Table::Connections, "is_active") {
            Some(active) => format!("COALESCE({active}, true)"),
            None => "true".to_owned(),
        };
        format!(
            "SELECT DISTINCT {tutor}::uuid FROM {} c \
              WHERE {tutor} = ANY ($1) AND {active} AND {} = 'connected'",
            self.connections,
            self.text("c", Table::Connections, "connection_status"),
            tutor = self.c("tutor_id"),
        )
    }

    /// Rows of `meetlink.tutor_connections` before waiting sessions are counted.
    pub fn view_tutors(&self) -> String {
        let p = |role| self.text("t", Table::Profiles, role);
        let id = self.or_null("t", Table::Profiles, "id", "uuid");
        let only_tutors = match self.column("t", Table::Profiles, "role") {
            Some(_) => format!("{} = 'tutor'", p("role")),
            None => "true".to_owned(),
        };
        format!(
            "SELECT {id}::uuid, {}, {}, {}, {}, {} \
               FROM {} t LEFT JOIN {} c ON {} = {id} WHERE {only_tutors} ORDER BY {}",
            p("full_name"),
            p("email"),
            self.text("c", Table::Connections, "provider"),
            self.text("c", Table::Connections, "connection_status"),
            self.c("token_expires_at"),
            self.profiles,
            self.connections,
            self.c("tutor_id"),
            p("full_name"),
        )
    }

    /// Which of some sessions the caller sees. `$1`: their ids.
    pub fn view_visible(&self) -> String {
        format!(
            "SELECT {id}::uuid FROM {} s WHERE {id} = ANY ($1)",
            self.sessions,
            id = self.s("id")
        )
    }
}
