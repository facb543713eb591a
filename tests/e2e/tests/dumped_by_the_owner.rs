//! Who can dump a database with meetlink in it, as README says.

use std::process::Output;

use meetlink_e2e::Cluster;
use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::Provider::Zoom;

fn dump(app: &App, user: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(app.cluster.bin_dir().join("pg_dump"))
        .args(["-h", &app.cluster.socket_dir().display().to_string()])
        .args(["-p", &Cluster::PORT.to_string(), "-U", user])
        .args(arguments)
        .arg(DATABASE)
        .output()
        .expect("pg_dump runs")
}

#[test]
fn the_owner_dumps_without_meetlinks_schema_and_a_backup_role_dumps_all() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    app.book(app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.client()
        .batch_execute("CREATE ROLE backup LOGIN BYPASSRLS IN ROLE pg_read_all_data")
        .unwrap();
    let plain = dump(&app, "postgres", &["--role=app_owner"]);
    let said = String::from_utf8_lossy(&plain.stderr);
    assert!(!plain.status.success());
    assert!(said.contains("permission denied"), "{said}");

    let own = dump(&app, "postgres", &["--role=app_owner", "-N", "meetlink"]);
    let said = String::from_utf8_lossy(&own.stderr);
    assert!(own.status.success(), "{said}");
    let own = String::from_utf8_lossy(&own.stdout);
    assert!(
        own.contains("CREATE EXTENSION IF NOT EXISTS meetlink"),
        "{own}"
    );
    assert!(own.contains("COPY public.sessions"), "{own}");
    assert!(!own.contains("COPY meetlink."), "{own}");

    let all = dump(&app, "backup", &[]);
    let said = String::from_utf8_lossy(&all.stderr);
    assert!(all.status.success(), "{said}");
    for part in ["COPY public.sessions", "COPY meetlink.config"] {
        assert!(
            String::from_utf8_lossy(&all.stdout).contains(part),
            "{part}"
        );
    }
}
