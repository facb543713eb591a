//! `meetlink.notifications` and `meetlink.deliveries`.

use std::time::Duration;

use pgrx::JsonB;
use uuid::Uuid;

use super::sql::{self, from_uuid, from_uuids, get, maybe, maybe_uuid, millis};
use crate::domain::notice::{Channel, Kind, Notice, StoredNotice};
use crate::pg::error::PgError;

/// Writes notifications down, each with its deliveries on these channels. What is open already is not
/// said again; gives how many are new.
pub fn tell(notices: &[Notice], channels: &[Channel]) -> Result<i64, PgError> {
    let mut told = 0;
    for notice in notices {
        let action = notice.action.map(|action| serde_json::json!(action));
        // Operators have no row of their own in the application's table.
        let channels: Vec<&str> = channels
            .iter()
            .filter(|channel| notice.tutor.is_some() || **channel != Channel::Application)
            .map(|channel| channel.as_str())
            .collect();
        told += sql::query_one(
            "WITH told AS ( \
               INSERT INTO meetlink.notifications \
                      (tutor_id, session_id, kind, provider, reason, message, action) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id), \
             due AS ( \
               INSERT INTO meetlink.deliveries (notification_id, channel, due_at) \
               SELECT t.id, c.channel, pg_catalog.clock_timestamp() \
                 FROM told t, pg_catalog.unnest($8) c(channel)) \
             SELECT pg_catalog.count(*), pg_catalog.count(pg_catalog.pg_notify( \
                      'meetlink_notifications', pg_catalog.json_build_object( \
                        'id', id, 'tutor_id', $1, 'kind', $3)::text)) FROM told",
            &[
                notice.tutor.map(from_uuid).into(),
                notice.session.map(from_uuid).into(),
                notice.kind.as_str().into(),
                notice.provider.as_deref().into(),
                notice.reason.as_str().into(),
                notice.message.as_str().into(),
                action.map(JsonB).into(),
                channels.into(),
            ],
            |row| get::<i64>(row, 1),
        )?
        .unwrap_or(0);
    }
    Ok(told)
}

/// What is no longer true.
#[derive(Clone, Default)]
pub struct Cures {
    /// Tutors whose connection works.
    pub tutors: Vec<Uuid>,
    /// Sessions that have their link, or need none.
    pub sessions: Vec<Uuid>,
    /// Providers at which something was made.
    pub providers: Vec<&'static str>,
}

impl Cures {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tutors.is_empty() && self.sessions.is_empty() && self.providers.is_empty()
    }
}

/// Resolves notifications whose cause is gone, and lets go of their deliveries.
pub fn resolve(cures: &Cures) -> Result<(), PgError> {
    sql::execute(
        "WITH gone AS ( \
           UPDATE meetlink.notifications n SET resolved_at = pg_catalog.clock_timestamp() \
            WHERE n.resolved_at IS NULL AND ( \
                  n.kind IN ('connect', 'reconnect') AND ( \
                    n.tutor_id = ANY ($1) \
                    OR n.tutor_id IN (SELECT tutor_id FROM meetlink.jobs \
                                       WHERE session_id = ANY ($2)) \
                   AND NOT EXISTS (SELECT FROM meetlink.jobs j WHERE j.tutor_id = n.tutor_id \
                                      AND j.state NOT IN ('ready', 'not_needed'))) \
               OR n.kind = 'failed' AND n.session_id = ANY ($2) \
               OR n.kind = 'operator' AND n.reason = 'session_unfit' \
                  AND NOT EXISTS (SELECT FROM meetlink.jobs j \
                                   WHERE j.state = 'failed' AND j.reason = n.reason) \
               OR n.kind = 'operator' AND n.reason <> 'session_unfit' AND n.provider = ANY ($3) \
                  AND NOT EXISTS (SELECT FROM meetlink.jobs j \
                                   WHERE (j.state IN ('retrying', 'in_doubt') \
                                          OR j.state = 'failed' AND n.reason = 'misconfigured') \
                                     AND j.reason = n.reason AND j.provider = n.provider)) \
           RETURNING n.id) \
         UPDATE meetlink.deliveries d SET due_at = NULL FROM gone g \
          WHERE d.notification_id = g.id AND d.due_at IS NOT NULL",
        &[
            from_uuids(cures.tutors.iter().copied()).into(),
            from_uuids(cures.sessions.iter().copied()).into(),
            cures.providers.clone().into(),
        ],
    )?;
    Ok(())
}

/// Whether anything is open.
pub fn any_open() -> Result<bool, PgError> {
    let found = sql::query_one(
        "SELECT true FROM meetlink.notifications WHERE resolved_at IS NULL LIMIT 1",
        &[],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// A delivery that is due.
pub struct Due {
    /// Number of the notification.
    pub id: i64,
    /// The way.
    pub channel: Channel,
    /// Tries so far.
    pub attempts: i32,
    /// What is to be delivered.
    pub notice: StoredNotice,
}

/// Deliveries that are due on a channel, oldest first.
pub fn due(channel: Channel, limit: usize) -> Result<Vec<Due>, PgError> {
    let found = sql::query(
        "SELECT d.notification_id, d.attempts, n.kind, n.tutor_id, n.session_id, \
                n.provider, n.reason, n.message, n.action, pg_catalog.to_json(n.created_at) #>> '{}', \
                CASE WHEN n.kind = 'failed' \
                     THEN pg_catalog.to_char(j.starts_at, 'FMDD FMMonth YYYY, HH24:MI TZ') END \
           FROM meetlink.deliveries d JOIN meetlink.notifications n ON n.id = d.notification_id \
                LEFT JOIN meetlink.jobs j ON j.session_id = n.session_id \
          WHERE d.channel = $1 AND d.due_at <= (SELECT pg_catalog.clock_timestamp()) \
          ORDER BY d.due_at LIMIT $2",
        &[
            channel.as_str().into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ],
        |row| {
            let Some(kind) = Kind::parse(&get::<String>(row, 3)?) else {
                return Ok(None);
            };
            Ok(Some(Due {
                id: get(row, 1)?,
                channel,
                attempts: get(row, 2)?,
                notice: StoredNotice {
                    kind,
                    tutor: maybe_uuid(row, 4)?,
                    session: maybe_uuid(row, 5)?,
                    provider: maybe(row, 6)?,
                    reason: get(row, 7)?,
                    message: get(row, 8)?,
                    action: maybe::<JsonB>(row, 9)?.map_or(serde_json::Value::Null, |j| j.0),
                    created_at: get(row, 10)?,
                    lesson: maybe(row, 11)?,
                },
            }))
        },
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// Milliseconds until the next delivery on one of these channels is due.
pub fn next_due(channels: &[Channel]) -> Result<Option<i64>, PgError> {
    let channels: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
    sql::query_one(
        "SELECT greatest(pg_catalog.ceil(1000 * extract(epoch FROM \
                  pg_catalog.min(d.due_at) - pg_catalog.clock_timestamp()))::bigint, 0) \
           FROM pg_catalog.unnest($1) c(channel), LATERAL ( \
                  SELECT due_at FROM meetlink.deliveries \
                   WHERE channel = c.channel AND due_at IS NOT NULL \
                   ORDER BY due_at LIMIT 1) d HAVING pg_catalog.count(*) > 0",
        &[channels.into()],
        |row| get(row, 1),
    )
}

/// Leaves a delivery alone for a while: somebody is at it.
pub fn lease(id: i64, channel: Channel, time: Duration) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.deliveries SET due_at = pg_catalog.clock_timestamp() + $3 * interval '1 ms' \
          WHERE notification_id = $1 AND channel = $2",
        &[id.into(), channel.as_str().into(), millis(time).into()],
    )?;
    Ok(())
}

/// Makes everything due that is to be sent: a worker that is gone may have had it in hand.
pub fn take_over() -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.deliveries SET due_at = pg_catalog.clock_timestamp() \
          WHERE due_at IS NOT NULL AND channel <> 'application'",
        &[],
    )?;
    Ok(())
}

/// Tries that a delivery has had.
pub fn attempts(id: i64, channel: Channel) -> Result<i32, PgError> {
    let found = sql::query_one(
        "SELECT attempts FROM meetlink.deliveries WHERE notification_id = $1 AND channel = $2",
        &[id.into(), channel.as_str().into()],
        |row| get(row, 1),
    )?;
    Ok(found.unwrap_or(0))
}

/// A delivery was made.
pub fn delivered(id: i64, channel: Channel) -> Result<(), PgError> {
    sql::execute(
        "WITH made AS ( \
           UPDATE meetlink.deliveries \
              SET due_at = NULL, attempts = attempts + 1, last_error = NULL, \
                  delivered_at = pg_catalog.clock_timestamp() \
            WHERE notification_id = $1 AND channel = $2 RETURNING delivered_at) \
         UPDATE meetlink.notifications n \
            SET delivered_at = COALESCE(n.delivered_at, m.delivered_at) FROM made m \
          WHERE n.id = $1",
        &[id.into(), channel.as_str().into()],
    )?;
    Ok(())
}

/// A delivery failed; it is tried again after `wait`, or given up. One that was let go of meanwhile
/// stays so.
pub fn set_back(
    id: i64,
    channel: Channel,
    wait: Option<Duration>,
    error: &str,
) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.deliveries \
            SET due_at = CASE WHEN due_at IS NOT NULL \
                              THEN pg_catalog.clock_timestamp() + $3 * interval '1 ms' END, \
                attempts = attempts + 1, last_error = $4 \
          WHERE notification_id = $1 AND channel = $2",
        &[
            id.into(),
            channel.as_str().into(),
            wait.map(millis).into(),
            error.into(),
        ],
    )?;
    Ok(())
}

/// Subject and text of the mails that the operator has changed.
pub fn mail_template(kind: Kind) -> Result<Option<(String, String)>, PgError> {
    sql::query_one(
        "SELECT subject, body FROM meetlink.mail_templates WHERE kind = $1",
        &[kind.as_str().into()],
        |row| Ok((get(row, 1)?, get(row, 2)?)),
    )
}
