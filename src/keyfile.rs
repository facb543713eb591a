//! Reading `meetlink.key_file`, with its permissions checked first, or asking
//! `meetlink.key_command`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use zeroize::Zeroizing;

use crate::domain::keyring::{KeyRing, KeyRingError};
use crate::keycommand;
use crate::pg::process;

/// Largest key file that is read, in bytes.
pub const LIMIT: u64 = 64 * 1024;

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFileError {
    /// The setting is empty.
    NotSet,
    /// The file cannot be opened.
    Unreadable(std::io::ErrorKind),
    /// Not an ordinary file.
    NotAFile,
    /// Group or others may read or write it.
    TooOpen(u32),
    /// It belongs to neither the server's user nor root.
    ForeignOwner,
    /// Its content is not a list of keys.
    Content(KeyRingError),
    /// A command is set as well.
    Both,
    /// The command ended with this status, or by a signal.
    CommandFailed(Option<i32>),
    /// The command took longer than so many seconds.
    CommandSlow(u64),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSet => f.write_str("the setting is empty"),
            Self::Unreadable(kind) => write!(f, "the file cannot be read ({kind})"),
            Self::NotAFile => f.write_str("it is not an ordinary file"),
            Self::TooOpen(mode) => {
                write!(f, "group or others have access to it (mode {mode:04o})")
            }
            Self::ForeignOwner => {
                f.write_str("it belongs to neither the server's operating system user nor root")
            }
            Self::Content(error) => error.fmt(f),
            Self::Both => f.write_str("meetlink.key_file and meetlink.key_command are both set"),
            Self::CommandFailed(Some(status)) => {
                write!(f, "the command ended with status {status}")
            }
            Self::CommandFailed(None) => f.write_str("the command was ended by a signal"),
            Self::CommandSlow(seconds) => {
                write!(
                    f,
                    "the command took more than {seconds} seconds, or wrote too much"
                )
            }
        }
    }
}

impl KeyFileError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotSet => {
                "Write a line \"k1 <64 hex digits>\" (openssl rand -hex 32) into a file of mode \
                 0600, set meetlink.key_file to its path in postgresql.conf, and reload."
            }
            Self::Unreadable(_) | Self::NotAFile => {
                "The path must be absolute and the file readable by the server's operating system \
                 user."
            }
            Self::Both => "Leave one of them empty, and reload.",
            Self::CommandFailed(_) | Self::CommandSlow(_) => {
                "Run it by hand with /bin/sh as the server's operating system user; it must print what a \
                 key file holds."
            }
            Self::TooOpen(_) => "Run chmod 0600 on the file.",
            Self::ForeignOwner => "Run chown on the file.",
            Self::Content(_) => {
                "Each line is a key id, a space and 64 hex digits (openssl rand -hex 32)."
            }
        }
    }
}

/// Loads the keys from where the settings say, and names that setting where it fails.
pub fn load(
    file: Option<&str>,
    command: Option<&str>,
) -> Result<KeyRing, (&'static str, KeyFileError)> {
    match (file, command) {
        (Some(_), Some(_)) => Err((COMMAND, KeyFileError::Both)),
        (None, Some(command)) => keycommand::run(command)
            .and_then(|text| KeyRing::parse(&text).map_err(KeyFileError::Content))
            .map_err(|error| (COMMAND, error)),
        (file, None) => read(file).map_err(|error| (FILE, error)),
    }
}

const FILE: &str = "meetlink.key_file";
const COMMAND: &str = "meetlink.key_command";

/// Reads the key file.
fn read(path: Option<&str>) -> Result<KeyRing, KeyFileError> {
    KeyRing::parse(&private_text(path)?).map_err(KeyFileError::Content)
}

/// Reads a file that nobody else may. Opened first and checked on the open file, so that what is
/// checked is what is read.
pub fn private_text(path: Option<&str>) -> Result<Zeroizing<String>, KeyFileError> {
    let path = path.ok_or(KeyFileError::NotSet)?;
    let unreadable = |error: std::io::Error| KeyFileError::Unreadable(error.kind());
    // Opening a pipe that nobody writes to would hang the worker.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(KeyFileError::NotAFile);
    }
    if facts.mode() & 0o077 != 0 {
        return Err(KeyFileError::TooOpen(facts.mode() & 0o7777));
    }
    if facts.uid() != process::user_id() && facts.uid() != 0 {
        return Err(KeyFileError::ForeignOwner);
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LIMIT)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with_file(name: &str, text: &str, mode: u32) -> Result<KeyRing, KeyFileError> {
        let path = std::env::temp_dir().join(format!("meetlink-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = read(path.to_str());
        std::fs::remove_file(&path).unwrap();
        loaded
    }

    #[test]
    fn a_private_file_is_read_and_an_open_one_is_not() {
        let line = format!("k1 {}", "ab".repeat(32));
        assert!(with_file("good", &line, 0o600).is_ok());
        assert_eq!(
            with_file("group", &line, 0o640).unwrap_err(),
            KeyFileError::TooOpen(0o640)
        );
        assert_eq!(
            with_file("world", &line, 0o604).unwrap_err(),
            KeyFileError::TooOpen(0o604)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(read(None).unwrap_err(), KeyFileError::NotSet);
        let missing = read(Some("/nonexistent/keys")).unwrap_err();
        assert_eq!(
            missing,
            KeyFileError::Unreadable(std::io::ErrorKind::NotFound)
        );
        assert_eq!(read(Some("/dev")).unwrap_err(), KeyFileError::NotAFile);
        let error = with_file("junk", "k1 secret-looking-junk", 0o600).unwrap_err();
        assert!(!error.to_string().contains("junk"));
    }
}
