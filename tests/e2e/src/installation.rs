//! An installation of PostgreSQL and meetlink for one cluster alone, whose library and scripts a
//! test may replace or remove while others run.

use crate::cluster::Cluster;
use crate::failure::{Context, Failure, Result};
use crate::template;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes it in a cluster's folder; gives the folder with its programs.
///
/// PostgreSQL finds its other files by where its own program lies, symlinks resolved, and pg_config
/// does too: so these are copies, and so is what belongs to meetlink.
pub(crate) fn copy_to(base: &Path) -> Result<PathBuf> {
    let bin = template::bin_dir()?;
    let version = bin.file_name().and(bin.parent()).and_then(Path::file_name);
    let version = version.ok_or_else(|| Failure::new("the programs lie in no folder"))?;
    let lib_root = PathBuf::from("usr/lib/postgresql").join(version);
    let share = PathBuf::from("usr/share/postgresql").join(version);
    let depth = lib_root.join("bin").components().count();
    let tree = bin.ancestors().nth(depth);
    let tree = tree.ok_or_else(|| Failure::new("the programs lie in no tree"))?;
    let own = base.join("tree");
    for folder in [&lib_root, &share] {
        let parent = own.join(folder.parent().unwrap_or(folder));
        std::fs::create_dir_all(&parent).context(|| format!("creating {}", parent.display()))?;
        cp("-as", &tree.join(folder), &parent)?;
    }
    let own_bin = own.join(&lib_root).join("bin");
    for program in ["postgres", "pg_config"] {
        cp("-fL", &bin.join(program), &own_bin)?;
    }
    let library = tree.join(&lib_root).join("lib/meetlink.so");
    cp("-fL", &library, &own.join(&lib_root).join("lib"))?;
    let scripts = std::fs::read_dir(tree.join(&share).join("extension"))
        .context(|| "reading the extension's folder".to_owned())?;
    for script in scripts.flatten() {
        if script.file_name().to_string_lossy().starts_with("meetlink") {
            cp("-fL", &script.path(), &own.join(&share).join("extension"))?;
        }
    }
    Ok(own_bin)
}

fn cp(how: &str, from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp")
        .args([how, "--remove-destination"])
        .args([from, to])
        .output()
        .context(|| "running cp".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!(
        "copying {} failed: {message}",
        from.display()
    )))
}

impl Cluster {
    /// meetlink's library, in an installation of the cluster's own.
    pub fn library(&self) -> PathBuf {
        self.own("lib/meetlink.so")
    }

    /// The folder with meetlink's control file and scripts, in an installation of the cluster's
    /// own.
    pub fn extension_dir(&self) -> PathBuf {
        let version = self.own("").file_name().map(PathBuf::from);
        self.base()
            .join("tree/usr/share/postgresql")
            .join(version.unwrap_or_default())
            .join("extension")
    }

    #[track_caller]
    fn own(&self, path: &str) -> PathBuf {
        assert!(
            self.bin_dir().starts_with(self.base()),
            "the cluster shares its installation with others"
        );
        let root = self.bin_dir().parent();
        root.unwrap_or(self.bin_dir()).join(path)
    }
}
