//! The part of the configuration that the harness owns: a file included by postgresql.conf.

use crate::failure::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    fn as_conf(&self) -> String {
        // In a quoted value of the configuration file, a backslash escapes and a quote is doubled.
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "''");
        self.0
            .iter()
            .map(|(name, value)| format!("{name} = '{}'\n", quoted(value)))
            .collect()
    }

    /// Replaces the file in one step: a server that is just reading sees the old or the new one.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        std::fs::write(&new, self.as_conf()).context(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, path).context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn values_are_quoted_as_the_configuration_file_wants_it() {
        let mut settings = Settings::default();
        settings.set("b.name", r"it's a \ backslash");
        settings.set("a", "1");
        settings.set("a", "2");
        assert_eq!(
            settings.as_conf(),
            "a = '2'\nb.name = 'it''s a \\\\ backslash'\n"
        );
    }
}
