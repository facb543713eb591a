//! What people and providers do at any moment: another try by hand, a token that ends early.

use std::time::Duration;

use meetlink_e2e::torture::Random;

use super::World;

const BETWEEN: Duration = Duration::from_millis(500);
/// One time in so many a tutor's access tokens end.
const TOKENS: u64 = 8;

/// Goes on until it is over; gives how many tries were asked for, and how often tokens ended.
pub fn run(world: &World<'_>, mut random: Random) -> (u64, u64) {
    let (mut asked, mut ended) = (0, 0);
    while !world.is_over() {
        std::thread::sleep(BETWEEN);
        if random.below(TOKENS) == 0 {
            random.pick(&world.tutors).lose_access(world.simulator);
            ended += 1;
        }
        let Some(mut client) = world.connect() else {
            continue;
        };
        let retried = client.query(
            "SELECT meetlink_retry(session_id)
               FROM (SELECT session_id FROM meetlink.jobs WHERE state NOT IN ('ready', 'not_needed')
                      ORDER BY random() LIMIT 2) j",
            &[],
        );
        asked += retried.map_or(0, |rows| rows.len() as u64);
    }
    (asked, ended)
}
