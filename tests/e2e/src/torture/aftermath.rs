//! What is looked at once more when all points of a cluster were tried.

use uuid::Uuid;

use super::point::Point;
use super::stage::{self, Stage, Tried};
use super::verdict;
use super::{Result, Scenario};

/// Gives the points that turn out to have failed, and why.
pub(super) fn look(stage: &mut Stage) -> Result<Vec<(Point, String)>> {
    let mut failed = tokens(stage)?;
    failed.extend(late_duplicates(stage));
    Ok(failed)
}

/// Meetings that came later than their session's judgement.
fn late_duplicates(stage: &Stage) -> Vec<(Point, String)> {
    let judged = stage.tried.iter().filter_map(|tried| {
        let ever = verdict::meetings_ever(stage, &tried.account);
        let own = 1 + usize::from(tried.point.scenario == Scenario::ZoomRefresh);
        let why = format!(
            "{}: {ever} meetings for session {}, one after it had its link",
            verdict::DUPLICATE,
            tried.session
        );
        (ever > own).then(|| (tried.point.clone(), why))
    });
    judged.collect()
}

/// Whoever has his link after a refresh has the living refresh token in the database: a second
/// session, for which the token has to be renewed again, gets its link too.
fn tokens(stage: &mut Stage) -> Result<Vec<(Point, String)>> {
    let mut client = stage.wake_server()?;
    let mut again: Vec<(&Tried, Uuid)> = Vec::new();
    for tried in &stage.tried {
        if tried.point.scenario != Scenario::ZoomRefresh
            || stage::link(&mut client, tried.session).is_none()
        {
            continue;
        }
        stage.simulator().expire_access_tokens(&tried.account);
        let expire = "UPDATE tutor_video_provider_connections
                         SET token_expires_at = now() - interval '1 h' WHERE tutor_id = $1";
        client
            .execute(expire, &[&tried.tutor.0])
            .map_err(|error| format!("{expire}: {error}"))?;
        let session = Uuid::new_v4();
        let provider = tried.point.scenario.provider();
        stage.book(&mut client, session, tried.tutor, provider)?;
        again.push((tried, session));
    }
    // Those whose token is dead are asked to connect: their sessions come to an end, too.
    let parked = "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE session_id = $1
                                    AND state IN ('needs_action', 'failed'))";
    let mut failed = Vec::new();
    for (tried, session) in again {
        let linked = stage.wait("the end of a second session", |_| {
            if stage::link(&mut client, session).is_some() {
                return Some(true);
            }
            let row = client.query_one(parked, &[&session]).ok()?;
            row.get::<_, bool>(0).then_some(false)
        })?;
        let tokens = stage.simulator().token_use(&tried.account);
        if !linked || tokens.killed_token_used > 0 {
            let why = format!("the refresh token that was kept is dead: {tokens:?}");
            failed.push((tried.point.clone(), why));
        }
    }
    Ok(failed)
}
