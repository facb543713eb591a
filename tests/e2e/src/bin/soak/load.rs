//! The bookings: at a steady rate, whatever happens to the server, and now and then many at once.

use std::time::{Duration, Instant};

use meetlink_e2e::app::name_of;
use meetlink_e2e::torture::Random;
use postgres::Client;
use uuid::Uuid;

use super::World;

/// More at once than there are places for requests.
const BURST: usize = 150;
/// One booking in so many is of that kind.
const SELDOM: u64 = 140;

/// A session that was asked for.
pub struct Booked {
    pub id: Uuid,
    /// Whether the server said that it is committed; else only a look tells.
    pub confirmed: bool,
    /// What the server said instead, unless it was only about to end.
    pub trouble: Option<String>,
}

/// Books until it is over.
pub fn run(world: &World<'_>, mut random: Random) -> Vec<Booked> {
    let pause = Duration::from_secs_f64(1.0 / world.wanted.rate);
    let mut booked = Vec::new();
    let mut client = None;
    let mut next = Instant::now();
    while !world.is_over() {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let Some(connected) = client.as_mut() else {
            client = world.connect();
            if client.is_none() {
                // What is missed meanwhile is caught up with.
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        };
        next += pause;
        let count = if random.below(SELDOM) == 0 { BURST } else { 1 };
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
        let refused = book(world, connected, &mut random, &ids).err();
        let confirmed = refused.is_none();
        let trouble = refused.and_then(|error| trouble(&error));
        booked.extend(ids.into_iter().map(|id| Booked {
            id,
            confirmed,
            trouble: trouble.clone(),
        }));
        if !confirmed {
            client = None;
        }
    }
    booked
}

/// An error of the server's other than that it, or our connection, is being ended.
fn trouble(error: &postgres::Error) -> Option<String> {
    let error = error.as_db_error()?;
    let ending = error.code().code().starts_with("57P");
    (!ending).then(|| error.to_string())
}

fn book(
    world: &World<'_>,
    client: &mut Client,
    random: &mut Random,
    ids: &[Uuid],
) -> Result<u64, postgres::Error> {
    let tutor = random.pick(&world.tutors);
    let hours = i32::try_from(1 + random.below(72)).unwrap_or(1);
    client.execute(
        "WITH s AS (SELECT * FROM unnest($4::uuid[]) WITH ORDINALITY s(id, n)),
              b AS (INSERT INTO bookings (tutor_id, student_id) SELECT $1, $2 FROM s RETURNING id),
              c AS (SELECT id AS booking, row_number() OVER () AS n FROM b)
         INSERT INTO sessions (id, booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes)
         SELECT id, booking, $1, $2, $3, now() + $5::int4 * interval '1 h',
                now() + ($5::int4 + 1) * interval '1 h', 60
           FROM s JOIN c USING (n)",
        &[
            &tutor.id,
            &world.student,
            &name_of(tutor.provider),
            &ids,
            &hours,
        ],
    )
}
