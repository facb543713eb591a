//! Who calls, where the application says so in a setting of the session.
//!
//! PostgREST (and so Supabase, whose `auth.uid()` reads the same) puts the claims of the caller's
//! token into `request.jwt.claims`, older versions each into a setting of its own.

use serde_json::Value;
use uuid::Uuid;

/// Settings that are looked at unless `options.caller_setting` of `meetlink_attach` names one.
pub const CLAIMS: [&str; 2] = ["request.jwt.claim.sub", "request.jwt.claims"];

/// The id in such a setting: as it is, or as claim `sub` of a JSON object.
pub fn id(value: &str) -> Option<Uuid> {
    let parse = |text: &str| Uuid::try_parse(text.trim()).ok();
    parse(value).or_else(|| {
        let claims: Value = serde_json::from_str(value).ok()?;
        parse(claims["sub"].as_str()?)
    })
}

/// Whether a text can be the name of such a setting.
pub fn is_setting(name: &str) -> bool {
    let word = |word: &str| {
        let mut letters = word.bytes();
        let first = letters.next();
        first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    name.len() < 64 && name.contains('.') && name.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_alone_or_among_claims() {
        let text = "7b0a0c3e-0000-4000-8000-000000000001";
        let wanted = Uuid::try_parse(text).ok();
        assert_eq!(id(text), wanted);
        let claims = format!(r#"{{"role": "authenticated", "sub": "{text}"}}"#);
        assert_eq!(id(&claims), wanted);
        for nobody in ["", "{}", "null", r#"{"sub": 7}"#, r#"{"sub": "x"}"#, "x"] {
            assert_eq!(id(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_setting_has_a_prefix_and_plain_words() {
        assert!(CLAIMS.iter().all(|name| is_setting(name)) && is_setting("app.user_id"));
        for odd in ["", "app", "app.", ".x", "app.user id", "app.1", "a.b\0"] {
            assert!(!is_setting(odd), "{odd}");
        }
    }
}
