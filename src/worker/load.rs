//! What claimed jobs are about, read from the application's tables.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::pg::error::PgError;
use crate::store::app;
use crate::store::jobs::Claimed;
use crate::store::mapped::Mapped;

/// What claimed jobs are about.
#[derive(Default)]
pub struct Loaded {
    /// Sessions by id.
    pub sessions: HashMap<Uuid, app::Session>,
    /// Names of tutors and students.
    pub names: HashMap<Uuid, String>,
    /// Connections by tutor.
    pub connections: HashMap<Uuid, Vec<app::Connection>>,
    /// Jobs that have failed already, since their rows cannot be read.
    pub failed: HashSet<Uuid>,
}

/// Reads what claimed jobs are about. `seen`: sessions that were read in this very step.
pub fn load(
    mapped: &Mapped,
    claimed: &[Claimed],
    seen: Vec<app::Session>,
) -> Result<Loaded, PgError> {
    let ids: HashSet<Uuid> = claimed.iter().map(|job| job.session).collect();
    let seen = seen.into_iter().filter(|session| ids.contains(&session.id));
    let mut sessions: HashMap<Uuid, app::Session> = seen.map(|s| (s.id, s)).collect();
    let unseen: Vec<Uuid> = ids
        .into_iter()
        .filter(|id| !sessions.contains_key(id))
        .collect();
    if !unseen.is_empty() {
        let others = app::sessions(mapped, &unseen)?;
        sessions.extend(others.into_iter().map(|s| (s.id, s)));
    }
    let tutors: HashSet<Uuid> = sessions
        .values()
        .filter_map(|session| session.tutor)
        .collect();
    let students = sessions.values().filter_map(|session| session.student);
    let people: HashSet<Uuid> = tutors.iter().copied().chain(students).collect();
    let names = app::names(mapped, &people.into_iter().collect::<Vec<_>>())?;
    // What was made is in the account in which it was made, whoever teaches now.
    let accounts = claimed.iter().filter_map(|job| job.account);
    let tutors: HashSet<Uuid> = tutors.into_iter().chain(accounts).collect();
    let tutors: Vec<Uuid> = tutors.into_iter().collect();
    let mut connections: HashMap<Uuid, Vec<app::Connection>> = HashMap::new();
    for connection in app::connections(mapped, &tutors)? {
        connections
            .entry(connection.tutor)
            .or_default()
            .push(connection);
    }
    Ok(Loaded {
        sessions,
        names,
        connections,
        failed: HashSet::new(),
    })
}
