//! The files in `monitoring/`, read by the exporters that they are for, against `meetlink.metrics`.

#[path = "support/exporter_run.rs"]
mod run;

use std::collections::BTreeMap;

use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use run::{Exporter, Labels, program};
use serde_json::Value;

const README: &str = include_str!("../../../README.md");
const SQL_EXPORTER: &str = include_str!("../../../monitoring/sql_exporter.yml");
const BOUNDS: [&str; 13] = [
    "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "300", "3600", "+Inf",
];

/// Links at both providers, an attempt that failed, a session given up, one that waits for its
/// tutor, and a provider that is held. Nothing moves any more.
fn scene() -> App {
    let app = App::start();
    let role = "CREATE ROLE prometheus LOGIN IN ROLE pg_monitor;";
    assert!(README.contains(role), "README's role");
    app.cluster.psql(DATABASE, role);
    let student = app.person("student", "Sam");
    let tutors = [app.tutor(Zoom, "Zoe"), app.tutor(Google, "Gia")];
    let busy = Action::ServerError { status: 503 };
    app.simulator.fault(Rule::once(Google, Call::Create, busy));
    for tutor in tutors {
        for _ in 0..3 {
            app.wait_for_link(app.book(tutor, student));
        }
    }
    let never = Rule::once(Zoom, Call::Create, Action::ZoomCannotSchedule);
    app.simulator.fault(never);
    app.wait_for_state(app.book(tutors[0], student), "failed");
    let alone = app.person("tutor", "Ned");
    app.wait_for_state(app.book(alone, student), "needs_action");
    app.cluster.psql(
        DATABASE,
        "INSERT INTO meetlink.holds (provider, side, until, reason, error)
         VALUES ('google_meet', 'tokens', now() + interval '1 h', 'provider_down', 'down')",
    );
    app.wait_until(
        "the worker to rest",
        "SELECT bool_and(state = 'idle' AND in_flight = 0) FROM meetlink.workers",
    );
    app
}

/// `meetlink.metrics`, as monitoring sees it.
fn metrics(app: &App) -> Series {
    let mut client = app.cluster.connect(DATABASE, "prometheus");
    let rows = client.query("SELECT name, labels, value FROM meetlink.metrics", &[]);
    let rows = rows.expect("monitoring may");
    let series = rows.iter().map(|row| {
        let labels: Value = row.get(1);
        let labels = labels.as_object().expect("an object").iter();
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()));
        ((row.get(0), labels.collect()), row.get(2))
    });
    series.collect()
}

type Series = BTreeMap<(String, Labels), f64>;

/// The same series with the same values; says which differ.
#[track_caller]
fn agree(exporter: &Exporter, seen: &Series, wanted: &Series) {
    let only = |here: &Series, there: &Series| -> Vec<String> {
        let same = |key, value: &f64| matches!(there.get(key), Some(v) if (v - value).abs() < 1e-9);
        let rest = here.iter().filter(|(key, value)| !same(key, value));
        rest.map(|(key, value)| format!("{key:?} {value}"))
            .collect()
    };
    let (more, less) = (only(seen, wanted), only(wanted, seen));
    assert!(
        more.is_empty() && less.is_empty() && !seen.is_empty(),
        "shown only: {more:#?}\nin the view only: {less:#?}\n{}",
        exporter.log()
    );
}

fn socket(app: &App) -> String {
    app.cluster.socket_dir().display().to_string()
}

/// README's line, with our socket and port; the exporter's own figures are of no interest.
fn postgres_exporter(app: &App) -> Option<Exporter> {
    let program = program("prometheus-postgres-exporter")?;
    let begin = README.find("DATA_SOURCE_NAME=").expect("README's line");
    let (line, _) = README[begin..].split_once("```").expect("an end");
    Some(Exporter::start(app.cluster.base(), |address| {
        line.replace(
            "host=/run/postgresql",
            &format!("host={} port=5432", socket(app)),
        )
        .replace(
            "prometheus-postgres-exporter ",
            &format!(
                "exec {} --web.listen-address={address} --disable-default-metrics \
                     --disable-settings-metrics --no-collector.database --no-collector.bgwriter ",
                program.display()
            ),
        )
    }))
}

#[test]
fn prometheus_postgres_exporter_shows_all_of_meetlink_metrics_with_names_types_and_labels() {
    let app = scene();
    let Some(exporter) = postgres_exporter(&app) else {
        return;
    };
    let of_database = |(mut key, value): ((String, Labels), f64)| {
        key.1.insert("datname".to_owned(), DATABASE.to_owned());
        (key, value)
    };
    let wanted: BTreeMap<_, _> = metrics(&app).into_iter().map(of_database).collect();
    let scrape = exporter.scrape();
    let error = scrape.plain("pg_exporter_last_scrape_error");
    assert_eq!(error, Some(0.0), "{}", exporter.log());
    let seen = scrape
        .values
        .iter()
        .filter(|((name, _), _)| name.starts_with("meetlink_"));
    let seen: BTreeMap<_, _> = seen.map(|(key, value)| (key.clone(), *value)).collect();
    agree(&exporter, &seen, &wanted);
    for name in scrape.names("meetlink_") {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        let (name, wanted) = match base {
            Some(base) => (base, "histogram"),
            None if name.ends_with("_total") => (name, "counter"),
            None => (name, "gauge"),
        };
        assert_eq!(
            scrape.types.get(name).map(String::as_str),
            Some(wanted),
            "{name}"
        );
    }
}

/// What the scene made is what is shown: not only that two readings agree.
#[test]
fn figures_are_those_of_what_happened() {
    let app = scene();
    let seen = metrics(&app);
    let get = |name: &str, labels: &[(&str, &str)]| -> f64 {
        let labels = labels
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        seen[&(format!("meetlink_{name}"), labels.collect())]
    };
    for (provider, sessions, made) in [("zoom", 4.0, 3.0), ("google_meet", 4.0, 3.0)] {
        let of = [("provider", provider)];
        assert_eq!(get("sessions_total", &of), sessions, "{provider}");
        assert_eq!(get("link_seconds_count", &of), made);
        assert!(get("link_seconds_sum", &of) > 0.0);
        let class = |class| {
            get(
                "attempts_total",
                &[("class", class), ("provider", provider)],
            )
        };
        assert_eq!(class("made"), made);
        let other = if provider == "zoom" {
            "permanent"
        } else {
            "retry"
        };
        assert_eq!(class(other), 1.0);
        let counts =
            BOUNDS.map(|le| get("link_seconds_bucket", &[("le", le), ("provider", provider)]));
        assert!(counts.is_sorted(), "cumulative: {counts:?}");
        assert_eq!(counts[12], made, "the last holds all");
        let bounds = seen.keys().filter(|(name, labels)| {
            name == "meetlink_link_seconds_bucket" && labels["provider"] == provider
        });
        assert_eq!(bounds.count(), BOUNDS.len());
    }
    assert_eq!(get("open_jobs", &[("state", "failed")]), 1.0);
    assert_eq!(get("open_jobs", &[("state", "needs_action")]), 1.0);
    assert_eq!(get("open_jobs", &[("state", "creating")]), 0.0);
    let held = |provider| {
        get(
            "provider_held",
            &[("provider", provider), ("side", "tokens")],
        )
    };
    assert_eq!((held("google_meet"), held("zoom")), (1.0, 0.0));
    for (name, value) in [("worker_up", 1.0), ("inbox", 0.0), ("orphans", 0.0)] {
        assert_eq!(get(name, &[]), value, "{name}");
    }
    assert!(
        get("worker_start_time_seconds", &[]) > 1.7e9,
        "seconds of the epoch"
    );
    for (name, labels) in seen.keys() {
        let empty = labels.values().any(String::is_empty);
        assert!(
            !empty,
            "an empty label is none to Prometheus: {name} {labels:?}"
        );
    }
}

/// An increase from nothing to one is none to Prometheus: series begin at 0.
#[test]
fn every_configured_provider_has_its_series_before_anything_happens() {
    let app = App::start();
    app.cluster
        .psql(DATABASE, "CREATE ROLE prometheus LOGIN IN ROLE pg_monitor");
    let seen = metrics(&app);
    for provider in ["google_meet", "zoom"] {
        let of = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter().copied().chain([("provider", provider)]);
            pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
        };
        for (name, labels) in [
            ("sessions_total", of(&[])),
            ("attempts_total", of(&[("class", "made")])),
            ("attempts_total", of(&[("class", "permanent")])),
            ("link_seconds_count", of(&[])),
            ("link_seconds_bucket", of(&[("le", "+Inf")])),
            ("provider_held", of(&[("side", "meetings")])),
        ] {
            let value = seen.get(&(format!("meetlink_{name}"), labels.clone()));
            assert_eq!(value, Some(&0.0), "{name} {labels:?}");
        }
    }
}

#[test]
fn a_worker_that_lets_go_shows_at_the_next_scrape() {
    let app = scene();
    let Some(exporter) = postgres_exporter(&app) else {
        return;
    };
    let up = || {
        let labels = Labels::from([("datname".to_owned(), DATABASE.to_owned())]);
        exporter
            .scrape()
            .values
            .get(&("meetlink_worker_up".to_owned(), labels))
            .copied()
    };
    assert_eq!(up(), Some(1.0));
    app.cluster.psql(DATABASE, "SELECT meetlink_pause()");
    meetlink_e2e::wait::until_true(meetlink_e2e::app::SOON, "the exporter to say so", || {
        up() == Some(0.0)
    });
}

#[test]
fn prometheus_sql_exporter_shows_the_same_figures() {
    let app = scene();
    let Some(program) = program("prometheus-sql-exporter") else {
        return;
    };
    let ours = "host=/run/postgresql";
    assert!(SQL_EXPORTER.contains(ours), "the socket's folder");
    let config = SQL_EXPORTER.replace(ours, &format!("host={}&port=5432", socket(&app)));
    let file = app.cluster.base().join("sql_exporter.yml");
    std::fs::write(&file, config).expect("a configuration");
    let exporter = Exporter::start(app.cluster.base(), |address| {
        format!(
            "exec {} -config.file {} -web.listen-address {address}",
            program.display(),
            file.display()
        )
    });
    let scrape = meetlink_e2e::wait::until(meetlink_e2e::app::SOON, "its first figures", || {
        let scrape = exporter.scrape();
        (!scrape.names("sql_meetlink").is_empty()).then_some(scrape)
    });
    let mut seen = BTreeMap::new();
    for ((name, labels), value) in scrape.values {
        if name != "sql_meetlink" {
            continue;
        }
        let mut labels = labels;
        for of_connection in ["col", "database", "driver", "host", "sql_job", "user"] {
            labels.remove(of_connection);
        }
        let name = labels.remove("name").expect("a name");
        // An empty label is none.
        labels.retain(|_, value| !value.is_empty());
        seen.insert((name, labels), value);
    }
    let wanted = metrics(&app);
    agree(&exporter, &seen, &wanted);
}
