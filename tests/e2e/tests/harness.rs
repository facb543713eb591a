//! The harness itself, on servers without meetlink.

use meetlink_e2e::{Cluster, ClusterOptions, StopMode, wait};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn plain() -> ClusterOptions {
    ClusterOptions::new().without_preload()
}

/// Every process that lives in the folder: a server's processes all do.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    let links =
        processes.filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("cwd")).ok());
    links.filter(|cwd| cwd.starts_with(folder)).collect()
}

#[test]
fn a_cluster_starts_without_the_library_and_listens_on_its_socket_only() {
    let cluster = Cluster::start(plain());
    assert_eq!(
        cluster.psql("postgres", "SHOW shared_preload_libraries"),
        ""
    );
    assert_eq!(cluster.psql("postgres", "SHOW listen_addresses"), "");
    assert!(cluster.socket_dir().join(".s.PGSQL.5432").as_os_str().len() < 100);
    let mode = std::fs::metadata(cluster.base())
        .expect("its folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "others can enter the cluster's folder");
}

#[test]
fn the_server_never_loads_from_the_machines_own_installation() {
    let cluster = Cluster::start(plain());
    let paths = cluster.psql(
        "postgres",
        "SELECT setting FROM pg_config WHERE name IN ('BINDIR', 'PKGLIBDIR', 'SHAREDIR') ORDER BY name",
    );
    let tree = cluster
        .bin_dir()
        .ancestors()
        .nth(5)
        .expect("a tree")
        .canonicalize()
        .expect("a tree");
    for path in paths.lines() {
        assert!(
            Path::new(path).starts_with(&tree),
            "{path} is outside of {}",
            tree.display()
        );
    }
    cluster.psql("postgres", "CREATE EXTENSION pgcrypto");
    assert_eq!(
        cluster.psql("postgres", "SELECT length(gen_random_bytes(7))"),
        "7"
    );
}

#[test]
fn data_outlives_every_way_of_stopping() {
    let mut cluster = Cluster::start(plain());
    cluster.create_database("app");
    cluster.psql("app", "CREATE TABLE kept (how text)");
    for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
        cluster.psql("app", &format!("INSERT INTO kept VALUES ('{mode:?}')"));
        let mark = cluster.log_mark();
        let pid = cluster.pid();
        let took = cluster.restart(mode);
        assert!(took < Duration::from_secs(10), "{mode:?} took {took:?}");
        assert_ne!(cluster.pid(), pid);
        let recovered = cluster.log_from(mark).contains("not properly shut down");
        assert_eq!(
            recovered,
            mode == StopMode::Immediate,
            "{mode:?}: {}",
            cluster.log_from(mark)
        );
    }
    assert_eq!(
        cluster.psql("app", "SELECT string_agg(how, ' ') FROM kept"),
        "Smart Fast Immediate"
    );
}

#[test]
fn two_clusters_know_nothing_of_each_other() {
    let one = Cluster::start(plain().set("work_mem", "1MB"));
    let two = Cluster::start(plain().set("work_mem", "2MB"));
    one.create_database("only_here");
    assert_eq!(one.psql("postgres", "SHOW work_mem"), "1MB");
    assert_eq!(two.psql("postgres", "SHOW work_mem"), "2MB");
    assert!(one.try_connect("only_here", "postgres").is_ok());
    assert!(two.try_connect("only_here", "postgres").is_err());
}

#[test]
fn dropping_a_cluster_leaves_no_process_and_no_folder() {
    let cluster = Cluster::start(plain());
    let base = cluster.base().to_owned();
    let _client = cluster.connect("postgres", "postgres");
    assert!(
        processes_in(&base).len() > 3,
        "the server's processes are to be seen"
    );
    drop(cluster);
    assert_eq!(processes_in(&base), Vec::<PathBuf>::new());
    assert!(!base.exists());
}

#[test]
fn a_killed_owner_leaves_no_process_and_no_folder() {
    let program = std::env::current_exe().expect("this program");
    let mut owner = Command::new(program)
        .args(["--exact", "--ignored", "--nocapture", "owner_to_be_killed"])
        .env("MEETLINK_TEST_OWNER", "yes")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the owner starts");
    let lines = BufReader::new(owner.stdout.take().expect("its words")).lines();
    let base = lines
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from(line.strip_prefix("base ")?)));
    let base = base.expect("the owner says where its cluster is");
    assert!(!processes_in(&base).is_empty());

    owner.kill().expect("the owner is killed");
    owner.wait().expect("the owner is gone");
    wait::until_true(
        Duration::from_secs(20),
        "the watchdog to remove the cluster",
        || !base.exists(),
    );
    assert_eq!(processes_in(&base), Vec::<PathBuf>::new());
}

/// Not a test: the process that `a_killed_owner_leaves_no_process_and_no_folder` kills.
#[test]
#[ignore = "runs until it is killed"]
fn owner_to_be_killed() {
    if std::env::var_os("MEETLINK_TEST_OWNER").is_none() {
        return;
    }
    let cluster = Cluster::start(plain());
    println!("\nbase {}", cluster.base().display());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn settings_change_at_a_reload_and_a_refused_one_is_in_the_log() {
    let mut cluster = Cluster::start(plain());
    cluster.reload_with(&[("work_mem", "7MB"), ("application_name", r"it's a \")]);
    assert_eq!(cluster.psql("postgres", "SHOW work_mem"), "7MB");
    let mark = cluster.log_mark();
    cluster.set("work_mem", "a lot");
    assert!(
        cluster
            .log_from(mark)
            .contains("invalid value for parameter \"work_mem\"")
    );
    assert_eq!(cluster.psql("postgres", "SHOW work_mem"), "7MB");
    cluster.unset("work_mem");
    assert_eq!(cluster.psql("postgres", "SHOW work_mem"), "4MB");
    let mark = cluster.log_mark();
    cluster.set("no_such_setting", "1");
    assert!(cluster.log_from(mark).contains("no_such_setting"));
}

#[test]
fn a_setting_changed_while_stopped_holds_at_the_next_start() {
    let mut cluster = Cluster::start(plain());
    cluster.stop(StopMode::Fast);
    cluster.set("max_worker_processes", "3");
    cluster.start_again();
    assert_eq!(cluster.psql("postgres", "SHOW max_worker_processes"), "3");
}

#[test]
fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
    let failure = Cluster::try_start(plain().set("shared_preload_libraries", "no_such_library"));
    let message = failure.err().expect("it cannot start").to_string();
    assert!(message.contains("no_such_library"), "{message}");
    let log = message
        .lines()
        .find_map(|line| line.strip_prefix("---- the end of "))
        .expect("the log's path");
    assert!(!Path::new(log).exists());
}

#[test]
fn the_key_file_belongs_to_the_server_and_nobody_else_reads_it() {
    let hex = "ab".repeat(32);
    let cluster = Cluster::start(plain().key("k1", &hex));
    let path = PathBuf::from(cluster.psql("postgres", "SHOW meetlink.key_file"));
    let meta = std::fs::metadata(&path).expect("the key file");
    let owner = std::fs::metadata(cluster.data_dir())
        .expect("the data folder")
        .uid();
    assert_eq!(
        (meta.permissions().mode() & 0o777, meta.uid()),
        (0o600, owner)
    );
    let text = cluster.psql(
        "postgres",
        &format!("SELECT pg_read_file('{}')", path.display()),
    );
    assert_eq!(text, format!("k1 {hex}\n"));
}

#[test]
fn psql_hands_over_long_input_and_output_and_the_error_that_stops_it() {
    let cluster = Cluster::start(plain());
    let long = "x".repeat(300_000);
    assert_eq!(
        cluster.psql("postgres", &format!("SELECT '{long}'")).len(),
        long.len()
    );
    let failure = cluster.try_psql("postgres", "postgres", "SELECT 1/0; SELECT 'never'");
    assert!(
        failure
            .unwrap_err()
            .to_string()
            .contains("division by zero")
    );
    assert_eq!(cluster.psql("postgres", "SELECT 1, NULL, 'b'"), "1||b");
}

#[test]
#[should_panic(expected = "in vain for the moon\n---- the end of")]
fn a_wait_in_vain_says_for_what_and_shows_the_servers_log() {
    let _cluster = Cluster::start(plain());
    wait::until(Duration::from_millis(20), "the moon", || None::<()>);
}
