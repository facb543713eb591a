//! The places in which a secret might turn up.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use meetlink_e2e::app::{App, DATABASE};
use meetlink_e2e::{Cluster, wait};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls};

use super::canary::{Finding, Hunt};

/// What people were shown, gathered while the worker works.
pub struct Heard {
    texts: Arc<Mutex<BTreeSet<(String, String)>>>,
    over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Heard {
    /// Begins to watch `pg_stat_activity` and to listen.
    pub fn start(cluster: &Cluster) -> Self {
        let texts = Arc::new(Mutex::new(BTreeSet::new()));
        let over = Arc::new(AtomicBool::new(false));
        let config = cluster.config(DATABASE, "postgres");
        let (kept, ended) = (Arc::clone(&texts), Arc::clone(&over));
        let listener = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // The server is down at times.
                if let Ok(mut client) = config.connect(NoTls) {
                    let _ = listen(&mut client, &kept, &ended);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self {
            texts,
            over,
            listener: Some(listener),
        }
    }

    pub fn keep(&self, place: &str, text: &str) {
        let entry = (format!("shown: {place}"), text.to_owned());
        self.texts.lock().expect("nobody panicked").insert(entry);
    }

    pub fn stop(&mut self) -> BTreeSet<(String, String)> {
        self.over.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            listener.join().expect("the listener ends");
        }
        let texts = self.texts.lock().expect("nobody panicked").clone();
        for place in ["pg_stat_activity", "NOTIFY", "pg_stat_statements"] {
            let place = format!("shown: {place}");
            assert!(texts.iter().any(|(p, _)| *p == place), "{place} is silent");
        }
        texts
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn listen(
    client: &mut Client,
    kept: &Mutex<BTreeSet<(String, String)>>,
    over: &AtomicBool,
) -> Result<(), postgres::Error> {
    client.batch_execute("LISTEN meetlink")?;
    while !over.load(Ordering::Relaxed) {
        let rows = client.query("SELECT a::text FROM pg_stat_activity a", &[])?;
        let mut texts = kept.lock().expect("nobody panicked");
        for row in rows {
            texts.insert(("shown: pg_stat_activity".to_owned(), row.get(0)));
        }
        for notice in client.notifications().iter().iterator().flatten() {
            texts.insert(("shown: NOTIFY".to_owned(), notice.payload().to_owned()));
        }
        drop(texts);
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

/// Every relation of meetlink's, the application's tables and the functions, as every role.
pub fn look_as_everybody(app: &App, heard: &Heard) {
    let mut client = app.client();
    let relations = client.query(
        "SELECT c.oid::regclass::text FROM pg_class c
          WHERE relnamespace IN ('meetlink'::regnamespace, 'public'::regnamespace)
            AND relkind IN ('r', 'v', 'S') AND relname <> 'control'",
        &[],
    );
    let relations: Vec<String> = relations
        .expect("a list")
        .iter()
        .map(|r| r.get(0))
        .collect();
    assert!(relations.len() > 20, "{relations:?}");
    let tutor = "SELECT id::text FROM profiles WHERE role = 'tutor' LIMIT 1";
    let tutor: String = app.value(tutor);
    for role in [
        "postgres",
        "app_owner",
        "authenticated",
        "anon",
        "service_role",
        "monitor",
        "reader",
        "nobody",
    ] {
        let as_role = format!("SET ROLE {role}; SET request.jwt.claim.sub = '{tutor}'");
        client.batch_execute(&as_role).expect("the role is taken");
        let mut texts = 0;
        let mut look = |place: &str, query: &str| match client.query(query, &[]) {
            Ok(rows) => {
                let text: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                texts += text.len();
                heard.keep(place, &text.join("\n"));
            }
            Err(error) => heard.keep(place, &format!("{error:?}")),
        };
        for relation in &relations {
            look(relation, &format!("SELECT r::text FROM {relation} r"));
        }
        for (place, query) in [
            ("meetlink_health", "SELECT h::text FROM meetlink_health() h"),
            (
                "meetlink_status",
                "SELECT meetlink_status(id)::text FROM sessions",
            ),
            (
                "pg_stat_statements",
                "SELECT s::text FROM pg_stat_statements s",
            ),
            ("pg_settings", "SELECT s::text FROM pg_settings s"),
            ("pg_file_settings", "SELECT s::text FROM pg_file_settings s"),
            (
                "pg_prepared_statements",
                "SELECT s::text FROM pg_prepared_statements s",
            ),
            ("pg_stats", "SELECT s::text FROM pg_stats s"),
        ] {
            look(place, query);
        }
        assert!(texts > 0, "{role} sees something");
        client.batch_execute("RESET ROLE").expect("back");
    }
}

/// Environment and command line of the server's processes.
pub fn processes(app: &App, hunt: &Hunt) -> BTreeSet<Finding> {
    let pids = "SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL";
    let rows = app.client().query(pids, &[]).expect("a list");
    let mut pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    pids.push(i32::try_from(app.cluster.pid()).expect("a pid"));
    let mut found = BTreeSet::new();
    for pid in pids {
        for file in ["environ", "cmdline", "comm"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            found.extend(hunt.search_at(&format!("process: {file}"), &text));
        }
    }
    found
}

/// Everything that the cluster's databases hold, and the roles.
pub fn dump_all(cluster: &Cluster) -> String {
    let output = Command::new(cluster.bin_dir().join("pg_dumpall"))
        .args(["-h", &cluster.socket_dir().display().to_string()])
        .args(["-p", &Cluster::PORT.to_string(), "-U", "postgres"])
        .output()
        .expect("pg_dumpall runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has the server archive all that it has written so far.
pub fn archive_all(cluster: &Cluster) {
    let segment = cluster.psql("postgres", "SELECT pg_walfile_name(pg_switch_wal())");
    let path = cluster.base().join("archive").join(segment.trim());
    wait::until_true(Duration::from_secs(20), "the archive", || path.exists());
}
