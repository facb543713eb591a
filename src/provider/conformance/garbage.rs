//! Whatever the answers are: no panic, no endless flow, no secret in what is printed.

use chrono::{DateTime, Utc};

use super::kit::*;
use super::{Fake, check_step, fake};
use crate::provider::http::{Broken, Fault, Reached, Request, Response};
use crate::provider::{Event, Known, Step, all};

const STATUSES: [u16; 24] = [
    0, 100, 200, 200, 200, 201, 204, 299, 301, 304, 400, 401, 403, 404, 404, 408, 409, 410, 412,
    425, 429, 500, 503, 65_535,
];

const BODIES: [&str; 26] = [
    "",
    "{}",
    "[]",
    "null",
    "7",
    "\"text\"",
    "{\"id\":",
    "[[[[[[[[[[",
    "<html><body>canary</body></html>",
    "<?xml version=\"1.0\"?><error><code>3001</code></error>",
    "<code>99999999999999999999999</code>",
    "\u{feff}{}",
    "{\"id\":1e400}",
    "{\"id\":-1,\"join_url\":\"https://zoom.us/j/1\"}",
    "{\"id\":99999999999999999999,\"join_url\":\"https://zoom.us/j/1\"}",
    "{\"id\":5,\"join_url\":{}}",
    "{\"id\":5,\"join_url\":\"https://zoom.us/j/5\",\"start_time\":\"9999999-01-01T00:00:00Z\"}",
    "{\"code\":{},\"message\":[]}",
    "{\"code\":3001,\"message\":\"canary is gone\"}",
    "{\"code\":124,\"message\":\"token canary\"}",
    "{\"error\":\"canary was refused\"}",
    "{\"error\":{\"errors\":7,\"details\":[null,{\"reason\":1}],\"message\":{}}}",
    "{\"error\":{\"errors\":[{\"reason\":\"duplicate\"}]}}",
    "{\"meetings\":[{\"agenda\":\"meetlink:01234567-89ab-cdef-0123-456789abcdef\",\"id\":6}],\"next_page_token\":\"x\"}",
    "{\"meetings\":[null,1,{\"agenda\":7}],\"next_page_token\":\"\\u0000\\n &?#\"}",
    "{\"access_token\":\"a\",\"expires_in\":{},\"refresh_token\":[]}",
];

const HEADERS: [(&str, &str); 6] = [
    ("retry-after", "5"),
    ("retry-after", "99999999999999999999"),
    ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("retry-after", "+262143-12-31T23:59:59Z"),
    ("retry-after", "\u{1F600}"),
    ("x-ratelimit-type", "Daily-limit"),
];

fn random_response(random: &mut Random) -> Response {
    let mut answer = text(random.of(&STATUSES), random.of(&BODIES));
    match random.below(8) {
        0 => answer.body.iter_mut().for_each(|b| *b ^= 0x80),
        1 => {
            answer.body = (0..random.below(200))
                .map(|_| random.bits() as u8)
                .collect()
        }
        2 => answer.body = "[".repeat(5_000).into_bytes(),
        _ => (),
    }
    if random.below(3) == 0 {
        let (name, value) = random.of(&HEADERS);
        answer.headers.push((name.into(), value.into()));
    }
    answer
}

/// A good answer with one thing wrong.
fn spoilt(random: &mut Random, mut answer: Response) -> Response {
    match random.below(6) {
        0 => answer.status = random.of(&STATUSES),
        1 => {
            let at = random.below(answer.body.len() + 1);
            answer.body.truncate(at);
        }
        2 => answer = swap(random, &answer),
        3 if !answer.body.is_empty() => {
            let at = random.below(answer.body.len());
            answer.body[at] = b' ' + (random.bits() % 90) as u8;
        }
        _ => (),
    }
    answer
}

/// One field gets a value of another type.
fn swap(random: &mut Random, answer: &Response) -> Response {
    let Some(mut body) = answer.json() else {
        return answer.clone();
    };
    if let Some(fields) = body.as_object_mut() {
        let names: Vec<String> = fields.keys().cloned().collect();
        if !names.is_empty() {
            let junk = [
                "null",
                "[]",
                "{}",
                "-1",
                "1e300",
                "\"\"",
                "\"cancelled\"",
                "[{}]",
            ];
            let value = serde_json::from_str(random.of(&junk)).unwrap();
            fields.insert(random.of(&names), value);
        }
    }
    response(answer.status, &body)
}

fn random_event(
    random: &mut Random,
    fake: &mut dyn Fake,
    request: &Request,
    clock: DateTime<Utc>,
) -> Event {
    let faults = [
        Fault::Dns,
        Fault::Timeout,
        Fault::TooLarge,
        Fault::NotHttp,
        Fault::Local,
        Fault::Forbidden,
    ];
    match random.below(20) {
        0 => Event::Go,
        1 => Event::Broken(Broken {
            reached: random.of(&[Reached::No, Reached::Maybe]),
            fault: random.of(&faults),
        }),
        2..10 => Event::Answer(random_response(random)),
        _ => {
            let good = fake.serve(request, clock);
            Event::Answer(spoilt(random, good))
        }
    }
}

#[test]
fn every_flow_ends_whatever_the_answers_are() {
    let mut random = Random(0xfeed);
    let (mut flows, mut answers, mut longest, mut done) = (0, 0, 0, 0);
    for provider in all() {
        for case in 0..75_000 {
            let ids = [
                "1",
                "5",
                "-3",
                "",
                "ml",
                "ml0123456789abcdef0123456789abcdefg18",
            ];
            let known = Known {
                external_id: (random.below(3) == 0).then(|| random.of(&ids).to_owned()),
                may_exist_since: (random.below(3) == 0).then(now),
                settle: SETTLE * (random.below(2) as u32),
                adopt: random.below(4) == 0,
            };
            let mut fake = fake(*provider, case % 4);
            let mut flow = begin(*provider, known);
            let mut clock = now();
            let mut event = Event::Go;
            for step_number in 0.. {
                assert!(step_number <= 300, "{} goes on and on", provider.name());
                longest = longest.max(step_number);
                let step = flow.next(event, clock);
                check_step(&step);
                event = match step {
                    Step::Send(request) => {
                        answers += 1;
                        random_event(&mut random, fake.as_mut(), &request, clock)
                    }
                    Step::Pause(wait) => {
                        clock += wait;
                        Event::Go
                    }
                    Step::Done(_) => {
                        done += 1;
                        break;
                    }
                    Step::Removed | Step::Failed(_) => break,
                };
            }
            flows += 1;
        }
    }
    println!("{flows} flows, {answers} answers, {done} meetings, longest {longest} steps");
    assert!(done > 1_000);
}

/// The answers that keep a flow going for as long as it will go.
#[test]
fn the_most_stubborn_answers_come_to_an_end() {
    let event = |random: &mut Random| {
        let all = [
            "{\"id\":\"ml0123456789abcdef0123456789abcdefg0\"}",
            "{\"id\":\"ml0123456789abcdef0123456789abcdefg1\",\"status\":\"cancelled\"}",
            "{\"meetings\":[],\"next_page_token\":\"more\"}",
        ];
        random.of(&all).to_owned()
    };
    let many = |from: usize| {
        let marker = wish().marker();
        let ours = |id| format!("{{\"agenda\":\"{marker}\",\"id\":{id}}}");
        let list: Vec<String> = (from..from + 30).map(ours).collect();
        format!(
            "{{\"meetings\":[{}],\"next_page_token\":\"more\"}}",
            list.join(",")
        )
    };
    let mut random = Random(7);
    for provider in all() {
        for case in 0..30 {
            let mut flow = begin(*provider, in_doubt(500));
            let mut next = Event::Go;
            let mut steps = 0;
            loop {
                let step = flow.next(next, now());
                check_step(&step);
                steps += 1;
                next = match (step, case % 3) {
                    (Step::Done(_) | Step::Removed | Step::Failed(_), _) => break,
                    (Step::Pause(_), _) => Event::Go,
                    (Step::Send(_), 0) => Event::Answer(text(200, &event(&mut random))),
                    (Step::Send(_), 1) => Event::Answer(text(200, &many(steps * 30))),
                    (Step::Send(_), _) => {
                        let code = random.of(&[404, 409, 410]);
                        Event::Answer(text(code, "{\"code\":3001}"))
                    }
                };
                assert!(steps <= 300, "{}", provider.name());
            }
        }
    }
}

#[test]
fn token_endpoints_may_say_what_they_like() {
    let mut random = Random(0xabcd);
    let (mut granted, cases) = (0, 100_000);
    for provider in all() {
        for _ in 0..cases {
            let answer = random_response(&mut random);
            match provider.granted(Event::Answer(answer), now()) {
                Ok(grant) => {
                    granted += 1;
                    assert!(grant.expires_at > now() && !grant.access.is_empty());
                    assert!(!format!("{grant:?}").contains("\"a\""));
                }
                Err(failure) => {
                    assert!(!format!("{failure:?}").contains(CANARY), "{failure:?}");
                    assert!(!failure.may_exist);
                }
            }
        }
    }
    println!("{} answers, {granted} grants", cases * all().len());
}
