//! Who runs the server: PostgreSQL refuses root, so root's servers run as the OS user `postgres`.

use crate::failure::{Context, Failure, Result};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[derive(Clone, Copy)]
struct Ids {
    uid: u32,
    gid: u32,
}

/// `None` when we are not root, and run everything as ourselves.
fn server_ids() -> Result<Option<Ids>> {
    static IDS: OnceLock<std::result::Result<Option<Ids>, String>> = OnceLock::new();
    IDS.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let id = |option: &str| -> std::result::Result<u32, String> {
            let output = Command::new("id").args([option, "postgres"]).output().map_err(|e| e.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout);
            text.trim().parse().map_err(|_| {
                "there is no OS user `postgres`, who runs the server for root (make setup installs it)".to_owned()
            })
        };
        Ok(Some(Ids { uid: id("-u")?, gid: id("-g")? }))
    })
    .clone()
    .map_err(Failure::new)
}

/// A command that runs as the server's OS user, in a folder that user can enter, without the
/// caller's `PG*` variables: `PGOPTIONS` or `PGHOST` of a developer must not change a test.
pub(crate) fn server_command(program: &Path) -> Result<Command> {
    let mut command = clean_command(program);
    command.current_dir("/");
    if let Some(ids) = server_ids()? {
        command.uid(ids.uid).gid(ids.gid).env("HOME", "/");
    }
    Ok(command)
}

/// A command that runs as ourselves, without the caller's `PG*` variables.
pub(crate) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// Gives a file or folder to the server's OS user.
pub(crate) fn give_to_server(path: &Path) -> Result<()> {
    match server_ids()? {
        None => Ok(()),
        Some(ids) => chown(path, Some(ids.uid), Some(ids.gid))
            .context(|| format!("chown {}", path.display())),
    }
}

/// The temporary folder, or `/tmp` when the server's OS user cannot enter it or when its path is so
/// long that a socket in a folder below would pass the limit of about 100 characters.
pub(crate) fn temp_dir() -> Result<PathBuf> {
    let dir = std::env::temp_dir();
    let dir = dir
        .canonicalize()
        .context(|| format!("the temporary folder {}", dir.display()))?;
    let short = dir.as_os_str().len() <= 50;
    let enterable = server_ids()?.is_none() || dir.ancestors().all(everybody_may_enter);
    Ok(if short && enterable {
        dir
    } else {
        PathBuf::from("/tmp")
    })
}

fn everybody_may_enter(dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    dir.metadata()
        .is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
}
