//! What is left of secrets in memory when the work is done, and that a crash of the worker writes
//! none of it to disk.

#[path = "support/canary.rs"]
mod canary;
#[path = "support/strace.rs"]
mod strace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use canary::{Hunt, random_key, random_text, unhex};
use chrono::Utc;
use meetlink_e2e::app::{App, DATABASE, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Options, Provider, Tls};
use postgres::Client;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

const PAGE: usize = 4096;

/// What is in the writable memory of a process, by kind of mapping. Pages of zeros are left out.
/// None, said on stderr, where it may not be read: of a process that is not dumped only root may.
fn memory(pid: i32) -> Option<BTreeMap<String, Vec<u8>>> {
    let path = |file: &str| format!("/proc/{pid}/{file}");
    let maps = std::fs::read_to_string(path("maps"));
    let (maps, memory) = match maps.and_then(|maps| Ok((maps, File::open(path("mem"))?))) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            strace::skip("the worker's memory cannot be read here");
            return None;
        }
        opened => opened.expect("the process is there"),
    };
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    let mut kinds = BTreeMap::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = words.nth(3).unwrap_or("anonymous");
        let Some((from, to)) = range.split_once('-').filter(|_| rights.starts_with("rw")) else {
            continue;
        };
        let kind = match (rights.ends_with('s'), path) {
            (true, _) => "shared",
            (false, "anonymous" | "[heap]" | "[stack]") => path,
            (false, _) => "libraries",
        };
        let kept: &mut Vec<u8> = kinds.entry(kind.to_owned()).or_default();
        let mut page = [0; PAGE];
        for at in (number(from)..number(to)).step_by(PAGE) {
            // Some of a mapping may not be there.
            if memory.read_at(&mut page, at).is_ok_and(|read| read == PAGE) && page != [0; PAGE] {
                kept.extend_from_slice(&page);
            }
        }
    }
    Some(kinds)
}

/// The canaries in a process's memory, each with the kinds of mapping.
fn remains(pid: i32, hunt: &Hunt) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (kind, bytes) in memory(pid)? {
        let names = hunt.search(&bytes).into_iter();
        found.extend(names.map(|(name, form)| format!("{name} ({form}) in {kind}")));
    }
    Some(found)
}

/// An application whose key and OAuth clients are canaries.
fn start(tls: Tls, hunt: &mut Hunt) -> App {
    let options = Options {
        tls,
        ..Options::default()
    };
    let mut app = App::unattached(options, |options| options);
    let key = random_key();
    app.cluster.write_key_file(&[("canary", &key)]);
    hunt.text("key as text", &key);
    // Token endpoints are on hosts of their own, which have connections of their own in ureq's pool.
    for (name, url) in [
        (
            "meetlink.google_token_url",
            app.simulator.google_token_url(),
        ),
        ("meetlink.zoom_token_url", app.simulator.zoom_token_url()),
    ] {
        app.cluster
            .set(name, &url.replace("127.0.0.1", "localhost"));
    }
    if let Some(pem) = app.simulator.ca_pem().map(str::to_owned) {
        let path = app.cluster.write_file("ca.pem", &pem, 0o600);
        let path = path.display().to_string();
        app.cluster.set("meetlink.ca_file", &path);
    }
    for provider in [Google, Zoom] {
        let secret = random_text(48);
        app.simulator.set_client(provider, "client", &secret);
        hunt.text(&format!("{provider:?} client secret"), &secret);
        let basic = STANDARD.encode(format!("client:{secret}"));
        hunt.text(&format!("{provider:?} basic credentials"), &basic);
    }
    app.attach();
    app
}

/// Both providers: a link with the token at hand, and one after a refresh.
fn work(app: &App, hunt: &mut Hunt) {
    let student = app.person("student", "Sam");
    for provider in [Google, Zoom] {
        for stale in [false, true] {
            let name = format!("{provider:?}{}", if stale { ", stale" } else { "" });
            let tutor = app.person("tutor", &name);
            let account = new_account(app, provider, &name);
            let over = Utc::now() - chrono::Duration::minutes(5);
            let end = if stale { over } else { account.expires_at };
            let connected = app.client().execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[
                    &tutor.0,
                    &name_of(provider),
                    &account.refresh_token,
                    &account.access_token,
                    &end,
                ],
            );
            connected.expect("the tutor is connected");
            app.wait_for_link(app.book(tutor, student));
            let after = app.simulator.account(provider, &name).expect("an account");
            hunt.text(&format!("{name}: refresh token"), &account.refresh_token);
            hunt.text(&format!("{name}: access token"), &account.access_token);
            if stale {
                hunt.text(&format!("{name}: new access token"), &after.access_token);
            }
            if after.refresh_token != account.refresh_token {
                hunt.text(&format!("{name}: new refresh token"), &after.refresh_token);
            }
        }
    }
}

fn new_account(app: &App, provider: Provider, name: &str) -> meetlink_simulator::Account {
    let spec = AccountSpec {
        refresh_token: Some(random_text(120)),
        access_token: Some(random_text(220)),
        ..AccountSpec::named(name)
    };
    app.simulator.add_account(provider, spec)
}

/// What outlives the worker's work by its nature: nothing that can be used tomorrow. Access tokens
/// live an hour, and ureq keeps the buffers of connections that it may use again.
#[track_caller]
fn assert_little_remains(tls: Tls) {
    let mut hunt = Hunt::default();
    let app = start(tls, &mut hunt);
    work(&app, &mut hunt);
    let pid = app.worker_pid();
    app.wait_until(
        "the worker to be idle",
        "SELECT state = 'idle' AND in_flight = 0 FROM meetlink.workers",
    );
    let Some(all) = remains(pid, &hunt) else {
        return;
    };
    eprintln!("{tls:?}: {all:#?}");
    let lasting: Vec<&String> = all
        .iter()
        .filter(|found| !found.contains("access token"))
        .collect();
    assert_eq!(lasting, Vec::<&String>::new());
}

#[test]
fn refresh_tokens_and_client_secrets_do_not_stay_in_the_workers_memory() {
    assert_little_remains(Tls::Off);
}

#[test]
fn nor_do_they_when_the_provider_is_called_with_tls() {
    assert_little_remains(Tls::Trusted);
}

#[test]
fn a_session_that_connected_a_tutor_does_not_keep_the_keys() {
    let mut hunt = Hunt::default();
    let app = start(Tls::Off, &mut hunt);
    let key = std::fs::read_to_string(app.cluster.base().join("meetlink.keys")).expect("keys");
    let hex = key.split_whitespace().nth(1).expect("a key");
    hunt.bytes("key", &unhex(hex));
    let tutor = app.person("tutor", "Ann");
    let account = new_account(&app, Zoom, "Ann");
    let mut client = app.client();
    let own: i32 = pid_of(&mut client);
    let connected = client.execute(
        "SELECT meetlink_connect($1, 'zoom', $2)",
        &[&tutor.0, &account.refresh_token],
    );
    connected.expect("the tutor is connected");
    let (Some(left), Some(kept)) = (remains(own, &hunt), remains(app.worker_pid(), &hunt)) else {
        return;
    };
    assert_eq!(left, BTreeSet::new());
    // The worker is the one that keeps them.
    assert!(
        kept.iter().any(|found| found.starts_with("key (")),
        "{kept:?}"
    );
}

fn pid_of(client: &mut Client) -> i32 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]);
    row.expect("a pid").get(0)
}

/// Takes the core files out of a folder; says whether there were any.
fn take_cores(folder: &Path) -> bool {
    let mut any = false;
    for entry in std::fs::read_dir(folder)
        .expect("the data folder")
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("core") {
            std::fs::remove_file(entry.path()).expect("it can be removed");
            any = true;
        }
    }
    any
}

/// Ends a process as a fault of its own would, and waits until the server is back, with a worker.
fn crash(app: &App, pid: i32, signal: Signal) {
    let worker = app.worker_pid();
    let pid = Pid::from_raw(pid).expect("a pid");
    kill_process(pid, signal).expect("the process is there");
    wait::until_true(SOON, "the server to be back", || {
        let client = app.cluster.try_connect(DATABASE, "postgres");
        let query = "SELECT pid FROM meetlink.workers WHERE pid IS NOT NULL";
        let row = client.ok().and_then(|mut c| c.query_opt(query, &[]).ok()?);
        row.is_some_and(|row| row.get::<_, i32>(0) != worker)
    });
}

#[test]
fn a_worker_that_crashes_leaves_no_core_file() {
    // As `ulimit -c unlimited` for the server, which inherits it from us.
    let most = getrlimit(Resource::Core).maximum;
    let raised = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Core, raised).expect("the limit can be raised");
    let app = App::start();
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let written = most.is_none() && !pattern.starts_with(['|', '/']);
    let data = app.cluster.data_dir();

    let mut client = app.client();
    let own = pid_of(&mut client);
    crash(&app, own, Signal::SEGV);
    if written {
        assert!(take_cores(&data), "an ordinary session leaves a core file");
        for signal in [Signal::SEGV, Signal::ABORT] {
            crash(&app, app.worker_pid(), signal);
            assert!(!take_cores(&data), "a core file after {signal:?}");
        }
    } else {
        strace::skip(&format!(
            "no core files are written here ({most:?}, {pattern})"
        ));
    }
    // What the kernel does not dump it shows to nobody but root either.
    let owner = |pid: i32| {
        let file = std::fs::metadata(format!("/proc/{pid}/environ")).expect("the process");
        (file.uid(), file.gid())
    };
    let mut client = app.client();
    let ordinary = owner(pid_of(&mut client));
    assert_ne!(ordinary, (0, 0), "an ordinary session can be looked into");
    assert_eq!(owner(app.worker_pid()), (0, 0), "the worker cannot");
}
