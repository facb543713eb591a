//! The wish for a meeting, and the meeting made.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Longest title that every provider takes (Zoom: 200 characters).
pub const TITLE_LIMIT: usize = 200;

/// What one session asks of a provider: that a meeting exists, at this time.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The session; the provider's copy of the meeting carries it, so that it can be found again.
    pub session_id: Uuid,
    /// Title that host and guest see.
    pub title: String,
    /// Start of the session.
    pub starts_at: DateTime<Utc>,
    /// End of the session; later than the start.
    pub ends_at: DateTime<Utc>,
}

impl Wish {
    /// Length in whole minutes, rounded up, at least one.
    pub fn minutes(&self) -> i64 {
        let seconds = (self.ends_at - self.starts_at).num_seconds();
        ((seconds + 59) / 60).max(1)
    }

    /// The text by which this session's meeting is recognised at the provider.
    pub fn marker(&self) -> String {
        marker(self.session_id)
    }
}

/// The text by which a session's meeting is recognised at the provider.
pub fn marker(session: Uuid) -> String {
    format!("meetlink:{}", session.hyphenated())
}

/// The title of a session's meeting, from the names that are known.
pub fn title(tutor: Option<&str>, student: Option<&str>) -> String {
    let named = |name: Option<&str>| name.map(str::trim).filter(|n| !n.is_empty()).map(tidy);
    let full = match (named(tutor), named(student)) {
        (Some(t), Some(s)) => format!("Tutoring session: {t} and {s}"),
        (Some(one), None) | (None, Some(one)) => format!("Tutoring session: {one}"),
        (None, None) => "Tutoring session".to_owned(),
    };
    full.chars().take(TITLE_LIMIT).collect()
}

/// A name without line breaks and other control characters.
fn tidy(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A meeting that exists at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The provider's id: a calendar event's id, a Zoom meeting's number.
    pub external_id: String,
    /// The link for all who join. Never the host's own link.
    pub join_url: JoinUrl,
}

/// A join link that was checked: https, printable, of sane length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinUrl(String);

impl JoinUrl {
    /// Longest link that is accepted, in bytes.
    pub const LIMIT: usize = 2_000;

    /// The link, or `None` when it is not one that a person should be sent to.
    pub fn parse(text: &str) -> Option<Self> {
        let host = text.strip_prefix("https://")?;
        let sane = text.len() <= Self::LIMIT
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            // A name before the host ("https://zoom.us@elsewhere") only misleads.
            && !host.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'`'));
        sane.then(|| Self(text.to_owned()))
    }

    /// The text of the link.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn wish(seconds: i64) -> Wish {
        let start = Utc.with_ymd_and_hms(2026, 3, 1, 10, 0, 0).unwrap();
        Wish {
            session_id: Uuid::nil(),
            title: String::new(),
            starts_at: start,
            ends_at: start + chrono::Duration::seconds(seconds),
        }
    }

    #[test]
    fn minutes_are_whole_and_never_zero() {
        assert_eq!(wish(3_600).minutes(), 60);
        assert_eq!(wish(3_601).minutes(), 61);
        assert_eq!(wish(0).minutes(), 1);
    }

    #[test]
    fn only_plain_https_links_are_links() {
        assert!(JoinUrl::parse("https://meet.google.com/abc-defg-hij").is_some());
        for bad in [
            "http://meet.google.com/x",
            "https://",
            "https:///x",
            "javascript:alert(1)",
            "https://a b",
            "https://zoom.us@elsewhere.example/j/1",
            "https://a\nb",
            "https://a/\"><script>",
        ] {
            assert!(JoinUrl::parse(bad).is_none(), "{bad}");
        }
        assert!(JoinUrl::parse(&format!("https://a/{}", "x".repeat(2_000))).is_none());
    }

    #[test]
    fn a_title_is_one_line_within_every_providers_limit() {
        assert_eq!(
            title(Some("Ada"), Some("Bo")),
            "Tutoring session: Ada and Bo"
        );
        assert_eq!(title(None, Some(" ")), "Tutoring session");
        assert!(!title(Some("a\r\nb"), None).contains('\n'));
        assert_eq!(
            title(Some(&"é".repeat(300)), None).chars().count(),
            TITLE_LIMIT
        );
    }
}
