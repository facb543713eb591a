//! `initdb` takes a second or two, copying its result a tenth of that: so it runs once for each
//! private tree, and every cluster begins as a copy.

use crate::account::{give_to_server, server_command};
use crate::failure::{Context, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Raise it when the arguments of `initdb` or the files written here change.
const LAYOUT: &str = "v2";

/// The folder with PostgreSQL's programs that the set-up made.
pub(crate) fn bin_dir() -> Result<PathBuf> {
    std::env::var_os("MEETLINK_PG_BIN")
        .map(PathBuf::from)
        .filter(|bin| bin.join("postgres").exists())
        .ok_or_else(|| {
            Failure::new(
                "MEETLINK_PG_BIN does not name a folder with PostgreSQL's programs.\n\
             HINT: run `make test`, or `make build` and then `. scripts/env.sh` in this shell",
            )
        })
}

/// Makes `data` a fresh data folder.
pub(crate) fn copy_to(data: &Path) -> Result<()> {
    let template = ensure()?;
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .args([template.as_path(), data])
        .output()
        .context(|| "running cp".to_owned())?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!(
            "copying {} failed: {message}",
            template.display()
        )));
    }
    Ok(())
}

fn ensure() -> Result<PathBuf> {
    // One thread at a time; another process at the same time does the work twice, and the second
    // to finish takes the first one's result.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);

    let bin = bin_dir()?;
    let templates = private_tree(&bin)?.join("templates");
    let ready = templates.join(LAYOUT);
    if ready.is_dir() {
        return Ok(ready);
    }
    std::fs::create_dir_all(&templates).context(|| format!("creating {}", templates.display()))?;
    let room = templates.join(format!("making-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&room);
    std::fs::create_dir(&room).context(|| format!("creating {}", room.display()))?;
    give_to_server(&room)?;
    let data = room.join("data");
    let made = init(&bin, &data).and_then(|()| match std::fs::rename(&data, &ready) {
        Err(error) if !ready.is_dir() => {
            Err(Failure::new(format!("naming {}: {error}", ready.display())))
        }
        _ => Ok(()),
    });
    let _ = std::fs::remove_dir_all(&room);
    made.map(|()| ready)
}

/// Makes `data` a fresh data folder with a system identifier of its own, which takes longer.
pub(crate) fn init(bin: &Path, data: &Path) -> Result<()> {
    let output = server_command(&bin.join("initdb"))?
        .args([
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=trust",
        ])
        .args(["--no-sync", "--no-instructions", "-D"])
        .arg(data)
        .output()
        .context(|| "running initdb".to_owned())?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!("initdb failed: {message}")));
    }
    let write = |name: &str, text: &str| {
        let path = data.join(name);
        std::fs::write(&path, text).context(|| format!("writing {}", path.display()))
    };
    write(
        "pg_hba.conf",
        "# The socket's folder is private: whoever gets there may come in.\n\
         local all all trust\nlocal replication all trust\n",
    )?;
    let conf = data.join("postgresql.conf");
    let sample =
        std::fs::read_to_string(&conf).context(|| format!("reading {}", conf.display()))?;
    write(
        "postgresql.conf",
        &format!("{sample}\ninclude = 'harness.conf'\n"),
    )
}

/// The tree that holds `bin`, which must be one that the set-up made: nothing is ever written into
/// the machine's own installation.
fn private_tree(bin: &Path) -> Result<PathBuf> {
    bin.ancestors()
        .find(|dir| dir.join(".meetlink-tree").exists())
        .map(Path::to_owned)
        .ok_or_else(|| {
            Failure::new(format!(
                "MEETLINK_PG_BIN={} is not in a private tree made by `make setup`.\n\
             HINT: run `make test`, or `make build` and then `. scripts/env.sh` in this shell",
                bin.display()
            ))
        })
}
