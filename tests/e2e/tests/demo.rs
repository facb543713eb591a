//! The demo, run as a newcomer runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use meetlink_e2e::wait;
use rustix::process::{Pid, Signal, kill_process};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The cluster's folder, as the demo says it.
fn folder(said: &str) -> PathBuf {
    let line = said
        .lines()
        .find_map(|line| line.split_once("everything runs in "))
        .unwrap_or_else(|| panic!("it does not say where it runs:\n{said}"));
    PathBuf::from(line.1.trim())
}

/// Processes that live in the folder, as a server's all do, or that name it.
fn processes_of(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let path = process.path();
        let lives_there =
            std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let command = text(&std::fs::read(path.join("cmdline")).unwrap_or_default());
        if lives_there || command.contains(folder.to_str().expect("a path")) {
            found.push(command);
        }
    }
    found
}

fn nothing_is_left(folder: &Path) {
    wait::until_true(Duration::from_secs(5), "the demo to clear up", || {
        !folder.exists() && processes_of(folder).is_empty()
    });
}

fn run(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(DEMO);
    command.args(arguments).stdin(Stdio::null());
    change(&mut command);
    command.output().expect("the demo starts")
}

#[test]
fn the_demo_shows_every_scene_and_leaves_nothing() {
    let begun = Instant::now();
    let output = run(&[], |_| ());
    let (said, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{complaints}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it takes long");
    assert_eq!(complaints, "");
    for needed in [
        "The provider is a simulator on this machine",
        "https://meet.google.com/",
        ".zoom.us/j/",
        "\"state\": \"ready\"",
        "503",
        "needs_action",
        "Connect again",
        "meetlink.missing_links",
        "meetlink.tutor_connections",
        "meetlink.queue",
        "meetlink.attempts",
        "meetlink.workers",
    ] {
        assert!(said.contains(needed), "{needed} is missing in:\n{said}");
    }
    assert!(!said.contains('\x1b'), "colour codes in a file:\n{said}");
    let long: Vec<_> = said
        .lines()
        .filter(|line| line.chars().count() > 100)
        .collect();
    assert!(long.is_empty(), "over 100 columns: {long:#?}");
    nothing_is_left(&folder(&said));
}

/// A demo that stays, and what it has said by then.
fn staying() -> (Child, PathBuf, String) {
    let mut demo = Command::new(DEMO)
        .arg("--stay")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("its output"));
    let mut said = String::new();
    while !said.contains("Enter or Ctrl-C here") {
        let read = lines.read_line(&mut said).expect("a line");
        assert!(read > 0, "the demo ended:\n{said}");
    }
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    let folder = folder(&said);
    (demo, folder, said)
}

#[test]
fn a_demo_that_stays_can_be_looked_at_until_enter() {
    let (mut demo, folder, said) = staying();
    let psql = said
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("psql "))
        .unwrap_or_else(|| panic!("it does not say how to connect:\n{said}"));
    let look = Command::new("sh")
        .args([
            "-c",
            &format!("{psql} -XAtc 'SELECT state FROM meetlink.missing_links'"),
        ])
        .output()
        .expect("sh starts");
    assert_eq!(
        text(&look.stdout).trim(),
        "needs_action",
        "{}",
        text(&look.stderr)
    );

    let mut input = demo.stdin.take().expect("its input");
    input.write_all(b"\n").expect("Enter");
    assert!(demo.wait().expect("it ends").success());
    nothing_is_left(&folder);
}

#[test]
fn a_demo_that_stays_goes_with_ctrl_c() {
    let (mut demo, folder, _) = staying();
    let pid = Pid::from_child(&demo);
    kill_process(pid, Signal::INT).expect("Ctrl-C");
    assert!(!demo.wait().expect("it ends").success());
    nothing_is_left(&folder);
}

#[test]
fn a_demo_that_cannot_go_on_says_why() {
    let output = run(&[], |command| {
        command.env("MEETLINK_PG_BIN", "/nowhere/bin");
    });
    let complaint = text(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.contains("The demo stopped"), "{complaint}");
    assert!(complaint.contains("make build"), "{complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
}
