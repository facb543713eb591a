//! A string that cannot be printed and is wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A token, a client secret or anything else that must not reach a log, an error or a view.
///
/// There is no `Display` and `Debug` says nothing, so that neither `format!` nor a panic message
/// can carry the text away. [`Secret::expose`] is the one way in; grep for it in a review.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the moment of its use.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it (some applications store an empty string for "no token").
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_contains_the_text() {
        let secret = Secret::new("ya29.canary");
        assert!(!format!("{secret:?} {:#?}", Some(&secret)).contains("canary"));
        assert_eq!(secret.expose(), "ya29.canary");
    }
}
