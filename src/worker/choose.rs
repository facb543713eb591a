//! Which of a tutor's connections makes a session's meeting. Pure.

use crate::provider::{self, Provider};
use crate::store::app::Connection;

/// The choice.
pub enum Choice<'a> {
    /// Use this connection.
    Use(&'a Connection, &'static dyn Provider),
    /// The connection there is has ended: the tutor must renew it.
    Renew(&'static dyn Provider),
    /// The tutor is connected nowhere.
    None,
}

/// Chooses: the session's own provider if the tutor is connected there, else the tutor's active
/// connection. `bound` is the provider at which a meeting may exist already: no other will do.
pub fn choose<'a>(
    wanted: Option<&str>,
    bound: Option<&str>,
    connections: &'a [Connection],
) -> Choice<'a> {
    let usable = |name: &str| {
        connections
            .iter()
            .find(|c| c.provider == name && c.is_usable())
            .zip(provider::by_name(name))
    };
    if let Some(bound) = bound.and_then(provider::by_name) {
        return match usable(bound.name()) {
            Some((connection, provider)) => Choice::Use(connection, provider),
            None => Choice::Renew(bound),
        };
    }
    if let Some((connection, provider)) = wanted.and_then(usable) {
        return Choice::Use(connection, provider);
    }
    let other = connections.iter().find_map(|c| usable(&c.provider));
    if let Some((connection, provider)) = other {
        return Choice::Use(connection, provider);
    }
    let ended = |c: &&Connection| c.is_active && c.status.as_deref() == Some("needs_reauth");
    let mine = connections
        .iter()
        .filter(|c| Some(c.provider.as_str()) == wanted)
        .find(ended);
    match mine.or_else(|| connections.iter().find(ended)) {
        Some(connection) => match provider::by_name(&connection.provider) {
            Some(provider) => Choice::Renew(provider),
            None => Choice::None,
        },
        None => Choice::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(provider: &str, status: &str, is_active: bool) -> Connection {
        Connection {
            tutor: uuid::Uuid::nil(),
            provider: provider.into(),
            status: Some(status.into()),
            is_active,
            access: None,
            refresh: Some("ml1.x".into()),
            expires_at: None,
        }
    }

    fn chosen(wanted: &str, bound: Option<&str>, connections: &[Connection]) -> String {
        match choose(Some(wanted), bound, connections) {
            Choice::Use(_, provider) => provider.name().to_owned(),
            Choice::Renew(provider) => format!("renew {}", provider.name()),
            Choice::None => "none".to_owned(),
        }
    }

    #[test]
    fn the_sessions_provider_comes_first_and_the_active_connection_second() {
        let both = [
            connection("zoom", "connected", true),
            connection("google_meet", "connected", true),
        ];
        assert_eq!(chosen("google_meet", None, &both), "google_meet");
        assert_eq!(chosen("zoom", None, &both), "zoom");
        assert_eq!(chosen("google_meet", None, &both[..1]), "zoom");
        assert_eq!(chosen("teams", None, &both[..1]), "zoom");
    }

    #[test]
    fn a_connection_that_ended_is_no_connection() {
        let ended = [connection("zoom", "needs_reauth", true)];
        assert_eq!(chosen("zoom", None, &ended), "renew zoom");
        assert_eq!(chosen("google_meet", None, &ended), "renew zoom");
        assert_eq!(
            chosen("zoom", None, &[connection("zoom", "disconnected", true)]),
            "none"
        );
        assert_eq!(
            chosen("zoom", None, &[connection("zoom", "connected", false)]),
            "none"
        );
        assert_eq!(chosen("zoom", None, &[]), "none");
    }

    #[test]
    fn a_meeting_that_may_exist_binds_to_its_provider() {
        let google = [connection("google_meet", "connected", true)];
        assert_eq!(chosen("google_meet", Some("zoom"), &google), "renew zoom");
    }
}
