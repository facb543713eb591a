//! The command line.

use meetlink_e2e::torture::{At, Nth, Plan, Random, Scenario, Strand, Way};

pub const HELP: &str = "\
Usage: torture [OPTION]...            (make torture TORTURE_ARGS='--every 5')

  --every K                   every K-th system call, not each
  --offset N                  beginning with the N-th; by chance when it is not said
  --each M                    M points at most of each scenario, way and thread, by chance
  --points MAX                MAX points in all, by chance
  --scenario NAME             google, zoom or zoom-refresh; may be said again
  --way NAME                  kill-worker, kill-postmaster, immediate or terminate; again too
  --thread NAME               main or http
  --at N | --at NAME:N        the N-th call only, or the N-th of a name, such as pwrite64:2
  --synchronous-commit on|off the database's; else on for google and off for the others
  --jobs N                    clusters at once: 1 or 2 (default 2)
  --seed N                    brings back the same choice
  --forgetful                 a trigger makes the worker forget what it has sent
  --expect-duplicates         for that, or for a build that posts again blindly: ends well only if
                              the sweep finds more than one meeting for a session";

pub struct Wanted {
    pub plan: Plan,
    pub expect_duplicates: bool,
}

/// What was asked for; nothing when it was the help.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Wanted>, String> {
    let mut plan = Plan::new(Random::seed());
    let mut expect_duplicates = false;
    let (mut scenarios, mut ways, mut strands) = (Vec::new(), Vec::new(), Vec::new());
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--expect-duplicates" => {
                expect_duplicates = true;
                continue;
            }
            "--forgetful" => {
                plan.forgetful = true;
                continue;
            }
            _ => {}
        }
        let value = arguments.next().unwrap_or_default();
        let known = |found: bool| match found {
            true => Ok(()),
            false => Err(format!("there is no {name} {value}")),
        };
        match name.as_str() {
            "--every" => plan.every = number(&name, &value)?.max(1),
            "--offset" => plan.offset = Some(number(&name, &value)?),
            "--each" => plan.each = Some(number(&name, &value)? as usize),
            "--points" => plan.points = Some(number(&name, &value)? as usize),
            "--at" => plan.at = Some(at(&value)?),
            "--seed" => plan.seed = number(&name, &value)?,
            "--jobs" => plan.jobs = number(&name, &value)?.clamp(1, 2) as usize,
            "--scenario" => {
                scenarios.extend(Scenario::named(&value));
                known(Scenario::named(&value).is_some())?;
            }
            "--way" => {
                ways.extend(Way::named(&value));
                known(Way::named(&value).is_some())?;
            }
            "--thread" => {
                strands.extend(Strand::named(&value));
                known(Strand::named(&value).is_some())?;
            }
            "--synchronous-commit" => {
                known(matches!(value.as_str(), "on" | "off"))?;
                plan.durable = Some(value == "on");
            }
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if expect_duplicates {
        // Google's ids are the sessions': there a second meeting cannot be.
        plan.scenarios.retain(|known| *known != Scenario::Google);
        plan.until_duplicate = true;
    }
    if !scenarios.is_empty() {
        plan.scenarios = scenarios;
    }
    if !ways.is_empty() {
        plan.ways = ways;
    }
    if !strands.is_empty() {
        plan.strands = strands;
    }
    Ok(Some(Wanted {
        plan,
        expect_duplicates,
    }))
}

fn at(value: &str) -> Result<At, String> {
    Ok(match value.split_once(':') {
        None => At::Number(number("--at", value)?),
        Some((name, nth)) => At::Nth(Nth {
            name: name.to_owned(),
            number: number("--at", nth)?,
        }),
    })
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value
        .parse()
        .map_err(|_| format!("{name} wants a number, not '{value}'"))
}
