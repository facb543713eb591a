//! Comparing the books: sessions and jobs on one side, the providers' meetings on the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use meetlink_simulator::{Meeting, Provider};
use postgres::Client;
use uuid::Uuid;

use super::World;
use super::kills::Kills;
use super::load::Booked;

/// What was found.
#[derive(Default)]
pub struct Books {
    pub asked: usize,
    pub unconfirmed: usize,
    pub never_committed: usize,
    pub sessions: usize,
    pub links: usize,
    /// By state and reason.
    pub parked: BTreeMap<String, usize>,
    /// Meetings that exist, by provider.
    pub meetings: [usize; 2],
    pub duplicates: usize,
    /// Sessions whose answer was lost and that have their link.
    pub doubts: usize,
    /// Meetings made before a kill whose link came after it.
    pub found: usize,
    /// Seconds from the booking's commit to the link, sorted.
    pub seconds: Vec<f64>,
    /// Lines of the ledger, by class.
    pub attempts: BTreeMap<String, i64>,
    /// Everything that is not as it should be.
    pub wrong: Vec<String>,
}

struct Session {
    link: Option<String>,
    state: Option<String>,
    reason: Option<String>,
    changed_at: DateTime<Utc>,
    seconds: f64,
}

/// Jobs that somebody still has to work on.
const OPEN: &str = "SELECT session_id::text || ' ' || state || ' ' || coalesce(reason, '')
                      FROM meetlink.queue WHERE state NOT IN ('needs_action', 'failed')";

/// Waits until every job is finished or parked, and no tutor is asked for anything; gives how long
/// that took, or what is left.
pub fn wait_until_settled(world: &World<'_>, patience: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    loop {
        let left: Vec<String> = match world.connect() {
            Some(mut client) => strings(&mut client, OPEN),
            None => vec!["the server does not answer".to_owned()],
        };
        let asked = "SELECT tutor_id::text FROM tutor_video_provider_connections
                      WHERE connection_status = 'needs_reauth'";
        let tutors = match world.connect() {
            Some(mut client) if left.is_empty() => strings(&mut client, asked),
            _ => Vec::new(),
        };
        if left.is_empty() && tutors.is_empty() {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > patience {
            let some: Vec<&String> = left.iter().chain(&tutors).take(5).collect();
            let count = left.len() + tutors.len();
            return Err(format!("after {patience:?} {count} are open: {some:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn strings(client: &mut Client, query: &str) -> Vec<String> {
    match client.query(query, &[]) {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        Err(error) => vec![format!("looking failed: {error}")],
    }
}

/// Compares everything with everything.
pub fn compare(world: &World<'_>, booked: &[Booked], kills: &Kills) -> Books {
    let mut client = world.connect().expect("the server answers at the end");
    let sessions = read_sessions(&mut client);
    let meetings: Vec<Meeting> = [Provider::Google, Provider::Zoom]
        .into_iter()
        .flat_map(|provider| world.simulator.meetings_ever(provider))
        .collect();
    let mut books = Books {
        asked: booked.len(),
        sessions: sessions.len(),
        ..Books::default()
    };
    for booked in booked {
        books.unconfirmed += usize::from(!booked.confirmed);
        if let Some(trouble) = &booked.trouble {
            books
                .wrong
                .push(format!("{}: a booking failed: {trouble}", booked.id));
        }
        match (booked.confirmed, sessions.contains_key(&booked.id)) {
            (true, false) => books
                .wrong
                .push(format!("{}: committed, and gone", booked.id)),
            (false, false) => books.never_committed += 1,
            _ => {}
        }
    }
    let mut by_session: HashMap<Uuid, Vec<&Meeting>> = HashMap::new();
    for meeting in &meetings {
        if !meeting.deleted {
            books.meetings[usize::from(meeting.provider == Provider::Zoom)] += 1;
        }
        match marker(meeting) {
            Some(id) if sessions.contains_key(&id) => {
                by_session.entry(id).or_default().push(meeting)
            }
            _ if meeting.deleted => {}
            _ => books
                .wrong
                .push(format!("meeting {} belongs to no session", meeting.id)),
        }
    }
    let doubted: HashSet<Uuid> = client
        .query(
            "SELECT DISTINCT session_id FROM meetlink.attempts WHERE class = 'in_doubt'",
            &[],
        )
        .expect("the ledger is read")
        .iter()
        .map(|row| row.get(0))
        .collect();
    for (id, session) in &sessions {
        let own = by_session.get(id).map_or(&[][..], Vec::as_slice);
        books.judge(*id, session, own);
        if session.link.is_some() {
            books.doubts += usize::from(doubted.contains(id));
            let span = own.first().map(|meeting| meeting.created_at.wall);
            let between = |kill: DateTime<Utc>| {
                span.is_some_and(|made| made < kill) && kill < session.changed_at
            };
            books.found += usize::from(kills.0.iter().any(|kill| between(kill.at)));
        }
    }
    books.seconds.sort_by(f64::total_cmp);
    let ledger = "SELECT class, count(*) FROM meetlink.attempts GROUP BY class";
    let rows = client.query(ledger, &[]).expect("the ledger is read");
    books.attempts = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    books
}

impl Books {
    fn judge(&mut self, id: Uuid, session: &Session, own: &[&Meeting]) {
        let existing: Vec<&&Meeting> = own.iter().filter(|meeting| !meeting.deleted).collect();
        if own.len() > 1 {
            self.duplicates += 1;
            let when: Vec<String> = own
                .iter()
                .map(|meeting| meeting.created_at.wall.format("%T%.3f").to_string())
                .collect();
            self.wrong
                .push(format!("{id}: {} meetings, made at {when:?}", own.len()));
        }
        match (&session.link, session.state.as_deref(), &session.reason) {
            (Some(link), Some("ready"), _) => {
                self.links += 1;
                self.seconds.push(session.seconds);
                let its_own = existing
                    .iter()
                    .any(|meeting| meeting.join_url.as_ref() == Some(link));
                if !its_own {
                    self.wrong
                        .push(format!("{id}: its link is no meeting of its own"));
                }
            }
            (None, Some(state @ ("needs_action" | "failed")), Some(reason)) => {
                let name = format!("{state}, {reason}");
                *self.parked.entry(name).or_default() += 1;
            }
            (link, state, reason) => self.wrong.push(format!(
                "{id}: neither linked nor parked: {state:?} {reason:?} link {}",
                link.is_some()
            )),
        }
    }
}

/// The session whose mark a meeting bears.
fn marker(meeting: &Meeting) -> Option<Uuid> {
    let body = meeting.body.to_string();
    let (_, rest) = body.split_once("meetlink:")?;
    rest.get(..36)?.parse().ok()
}

fn read_sessions(client: &mut Client) -> HashMap<Uuid, Session> {
    let query = "SELECT s.id, s.join_url, j.state, j.reason, s.updated_at,
                        extract(epoch FROM s.updated_at - s.created_at)::float8
                   FROM sessions s LEFT JOIN meetlink.jobs j ON j.session_id = s.id";
    let rows = client.query(query, &[]).expect("the sessions are read");
    let sessions = rows.iter().map(|row| {
        let session = Session {
            link: row.get(1),
            state: row.get(2),
            reason: row.get(3),
            changed_at: row.get(4),
            seconds: row.get(5),
        };
        (row.get(0), session)
    });
    sessions.collect()
}
