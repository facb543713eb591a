//! `make install`: into a server that runs, and with nothing that only tests need.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use meetlink_e2e::StopMode;
use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Google;

/// A script of ours, as from a shell that has not sourced anything.
fn script(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let mut script = Command::new(folder.join(name));
    // What cargo says to the tests that it runs would say something else to a cargo of theirs.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO_")
            && !matches!(
                &*text,
                "CARGO_HOME" | "CARGO_TARGET_DIR" | "CARGO_NET_OFFLINE"
            );
        if ours || text == "CARGO" {
            script.env_remove(name);
        }
    }
    script
}

fn run(mut script: Command) -> String {
    let output = script.output().expect("the script starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    said
}

/// What the worker has of the library: each mapping's file, as the kernel names it.
fn mapped(app: &App) -> BTreeSet<(u64, bool)> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", app.worker_pid()));
    let maps = maps.expect("the worker's mappings");
    let ours = maps.lines().filter(|line| line.contains("/meetlink.so"));
    ours.map(|line| {
        let inode = line.split_whitespace().nth(4).expect("an inode");
        (
            inode.parse().expect("a number"),
            line.ends_with("(deleted)"),
        )
    })
    .collect()
}

#[test]
fn installing_while_a_server_runs_changes_no_file_that_it_has_and_bookings_go_on() {
    let mut app = App::with(|options| options.own_installation());
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let library = app.cluster.library();
    let mut old = File::open(&library).expect("the library");
    let mut before = Vec::new();
    old.read_to_end(&mut before).expect("its bytes");
    let meta = old.metadata().expect("its data");
    assert_eq!(mapped(&app), BTreeSet::from([(meta.ino(), false)]));
    let pid = app.worker_pid();

    let done = AtomicBool::new(false);
    let mut seen = BTreeSet::new();
    let booked = thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(SeqCst) {
                let meta = library.metadata().expect("the library is always there");
                seen.insert((meta.ino(), meta.len()));
            }
            seen
        });
        // Each books on a connection of its own, as those of an application that comes and goes.
        let bookings = scope.spawn(|| {
            let mut booked = 0;
            while !done.load(SeqCst) {
                app.wait_for_link(app.book(tutor, student));
                booked += 1;
            }
            booked
        });
        let mut install = script("install.sh");
        install.env("PG_CONFIG", app.cluster.bin_dir().join("pg_config"));
        let said = install.output();
        done.store(true, SeqCst);
        let said = said.expect("the script starts");
        let complaint = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{complaint}");
        seen.extend(looks.join().expect("nobody misses the library"));
        bookings.join().expect("every booking has its link")
    });
    assert!(booked > 0);
    let new = library.metadata().expect("the library");
    assert_ne!(new.ino(), meta.ino(), "another file");
    assert_eq!(
        seen,
        BTreeSet::from([(meta.ino(), meta.len()), (new.ino(), new.len())]),
        "whole at every moment"
    );

    // The old one, which nobody can name any more, is as it was.
    let mut after = Vec::new();
    let mut still = File::open(format!("/proc/self/fd/{}", fd(&old))).expect("the old file");
    still.read_to_end(&mut after).expect("its bytes");
    assert!(before == after, "the old library was written to");
    assert_eq!(
        old.metadata().expect("its data").mtime_nsec(),
        meta.mtime_nsec()
    );
    assert_eq!(
        (app.worker_pid(), mapped(&app)),
        (pid, BTreeSet::from([(meta.ino(), true)])),
        "the server goes on with what it has"
    );

    let names = |folder: &Path| {
        let files = std::fs::read_dir(folder).expect("a folder").flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let ours = names.filter(|name| name.starts_with("meetlink"));
        ours.collect::<BTreeSet<_>>()
    };
    let version: String = app.value("SELECT extversion FROM pg_extension WHERE extname='meetlink'");
    assert_eq!(
        names(library.parent().expect("a folder")),
        BTreeSet::from(["meetlink.so".to_owned()]),
        "nothing is left over"
    );
    assert_eq!(
        names(&app.cluster.extension_dir()),
        BTreeSet::from([
            "meetlink.control".to_owned(),
            format!("meetlink--{version}.sql")
        ])
    );

    app.cluster.restart(StopMode::Fast);
    app.wait_for_link(app.book(tutor, student));
    assert_eq!(mapped(&app), BTreeSet::from([(new.ino(), false)]));
}

fn fd(file: &File) -> i32 {
    use std::os::fd::AsRawFd;
    file.as_raw_fd()
}

/// A machine on which no Debian package is installed and apt-get only says what it was asked for.
struct Bare {
    folder: PathBuf,
}

impl Bare {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let bare = Self { folder };
        bare.program("dpkg-query", "exit 1");
        bare.program("sudo", "[ \"$1\" = -v ] || exec \"$@\"");
        let asked = bare.folder.join("asked");
        bare.program(
            "apt-get",
            &format!("printf '%s\\n' \"$@\" >> {}", asked.display()),
        );
        bare
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("its mode");
    }

    /// The packages that are asked for.
    fn set_up(&self, arguments: &[&str], pg_config: Option<&str>) -> BTreeSet<String> {
        let mut setup = script("setup.sh");
        let path = std::env::var("PATH").expect("a PATH");
        // With the cargo-pgrx that there is: compiling it is no subject here.
        let path = format!("{}:{path}", self.folder.display());
        setup.env("PATH", path).args(arguments);
        setup.env("MEETLINK_HOME", self.folder.join("home"));
        match pg_config {
            Some(path) => setup.env("PG_CONFIG", path),
            None => setup.env_remove("PG_CONFIG"),
        };
        run(setup);
        let asked = std::fs::read_to_string(self.folder.join("asked")).expect("apt-get is asked");
        let packages = asked.lines().skip_while(|line| *line != "install").skip(1);
        let packages = packages.filter(|word| !word.starts_with('-'));
        packages.map(str::to_owned).collect()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn an_install_asks_for_compilers_and_headers_and_makes_no_server_of_its_own() {
    let bare = Bare::new("meetlink-install");
    let build = [
        "gcc",
        "libc6-dev",
        "libclang-dev",
        "libssl-dev",
        "pkg-config",
    ];
    let mut wanted: BTreeSet<String> = build.map(str::to_owned).into();
    wanted.insert("postgresql-server-dev-15".to_owned());
    assert_eq!(bare.set_up(&["for-install"], None), wanted);
    let home = std::fs::read_dir(bare.folder.join("home")).expect("its folder");
    let names = home.flatten().map(|file| file.file_name());
    let trees = names.filter(|name| name.to_string_lossy().starts_with("tree"));
    assert_eq!(trees.count(), 0);
}

#[test]
fn a_postgresql_that_is_named_has_its_own_headers() {
    let bare = Bare::new("meetlink-install-own");
    let packages = bare.set_up(&["for-install"], Some("/opt/pg/bin/pg_config"));
    assert!(packages.contains("gcc"), "{packages:?}");
    assert!(
        packages.iter().all(|name| !name.starts_with("postgresql")),
        "{packages:?}"
    );
}
