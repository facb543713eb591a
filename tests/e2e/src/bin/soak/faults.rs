//! Random misbehaviour of the providers, at a moderate rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use meetlink_e2e::torture::Random;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Provider, RateLimit, Rule, RuleId};

use super::World;

const BETWEEN: Duration = Duration::from_millis(700);
/// A rule that met nothing for so long is taken back.
const STALE: Duration = Duration::from_secs(15);

/// What the faults came to.
#[derive(Default)]
pub struct Fired {
    /// Rules that were set.
    pub set: u64,
    /// Requests and connections that were hit.
    pub hit: u64,
}

/// Sets faults until it is over, then takes all back.
pub fn run(world: &World<'_>, mut random: Random) -> Fired {
    let mut set: VecDeque<(Instant, RuleId)> = VecDeque::new();
    let mut fired = Fired::default();
    while !world.is_over() {
        std::thread::sleep(BETWEEN);
        let rule = any(&mut random);
        set.push_back((Instant::now(), world.simulator.fault(rule)));
        fired.set += 1;
        while let Some((_, rule)) = set.pop_front_if(|(since, _)| since.elapsed() > STALE) {
            fired.hit += world.simulator.fired(rule);
            world.simulator.remove_fault(rule);
        }
    }
    fired.hit += set
        .iter()
        .map(|(_, rule)| world.simulator.fired(*rule))
        .sum::<u64>();
    world.simulator.clear_faults();
    fired
}

fn any(random: &mut Random) -> Rule {
    let provider = *random.pick(&[Google, Zoom]);
    let (call, action) = match random.below(10) {
        0..7 => (Call::Create, trouble(random, provider)),
        // Get is Google's way to look, List is Zoom's.
        7 => (
            if provider == Google {
                Call::Get
            } else {
                Call::List
            },
            trouble(random, provider),
        ),
        _ => (Call::Token, token_trouble(random)),
    };
    let times = 1 + random.below(3);
    Rule::always(provider, call, action).times(times)
}

fn trouble(random: &mut Random, provider: Provider) -> Action {
    let effect = random.below(2) == 0;
    match random.below(18) {
        0 | 1 => Action::ServerError {
            status: *random.pick(&[500, 502, 503, 504]),
        },
        2 => Action::Xml { status: 503 },
        3 => Action::Html { status: 502 },
        4 => Action::Stall { effect },
        5 => Action::ResetBeforeRequest,
        6 => Action::ResetOnAccept,
        7 | 8 => Action::ResetAfterEffect,
        9 | 10 => Action::CutBody,
        11 => Action::Close { effect },
        12 => Action::Unauthorized,
        13 => Action::NotJson { effect },
        14 => Action::BigBody {
            bytes: 10 * 1024 * 1024,
        },
        15 => Action::SlowDrip { every_ms: 20 },
        _ => Action::RateLimit {
            form: later(random, provider),
        },
    }
}

fn later(random: &mut Random, provider: Provider) -> RateLimit {
    let common = [
        RateLimit::NoHint,
        RateLimit::Seconds(1),
        RateLimit::HttpDate(2),
        RateLimit::Iso8601(2),
    ];
    // Those of the day are left out: nobody waits until midnight.
    let own: &[RateLimit] = match provider {
        Google => &[
            RateLimit::GoogleRateLimitExceeded,
            RateLimit::GoogleUserRateLimitExceeded,
            RateLimit::GoogleTooManyRequests,
        ],
        Zoom => &[RateLimit::ZoomPerSecond],
    };
    match random.below(2) {
        0 => *random.pick(&common),
        _ => *random.pick(own),
    }
}

fn token_trouble(random: &mut Random) -> Action {
    match random.below(6) {
        0 => Action::ServerError { status: 500 },
        1 => Action::ResetBeforeRequest,
        // Zoom has rotated the refresh token then, and the new one is lost: the tutor must connect.
        2 => Action::ResetAfterEffect,
        3 => Action::CutBody,
        4 => Action::Stall { effect: false },
        _ => Action::Html { status: 502 },
    }
}
