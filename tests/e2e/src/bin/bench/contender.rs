//! Who makes the links, or only queues them: meetlink, or what a user would pick instead, on the
//! same cluster and in turn.

use super::peers::{Peers, Purpose, Running};
use super::stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// No trigger at all.
    Nothing,
    Meetlink,
    /// A trigger in plpgsql that fills a logged table; nobody works on it.
    PlainTable,
    GraphileWorker,
    /// With none of the settings that its pages recommend.
    GraphileAsItComes,
    PgBoss,
}

/// How a statement brings its rows, which decides what trigger a peer recommends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    One,
    Many,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no trigger",
            Self::Meetlink => "meetlink",
            Self::PlainTable => "plain queue table, plpgsql",
            Self::GraphileWorker => "graphile-worker",
            Self::GraphileAsItComes => "graphile-worker as it comes",
            Self::PgBoss => "pg-boss",
        }
    }

    pub fn is_graphile(self) -> bool {
        matches!(self, Self::GraphileWorker | Self::GraphileAsItComes)
    }

    /// The program that does its work.
    fn program(self) -> &'static str {
        match self {
            Self::GraphileAsItComes => Self::GraphileWorker.name(),
            other => other.name(),
        }
    }

    /// Makes `peer_row()` and `peer_statement()`.
    fn sql(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Meetlink => None,
            Self::PlainTable => Some(include_str!("../../../peers/plain-table.sql")),
            Self::GraphileWorker | Self::GraphileAsItComes => {
                Some(include_str!("../../../peers/graphile-worker.sql"))
            }
            Self::PgBoss => Some(include_str!("../../../peers/pg-boss.sql")),
        }
    }
}

/// Where each keeps its jobs.
const TABLES: [&str; 3] = ["graphile_worker._private_jobs", "pgboss.job", "plain_queue"];

/// Tells of a peer's links as meetlink tells of its own.
const TELL: &str = r#"
    CREATE FUNCTION peer_tells() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_notify('meetlink', '{"state":"ready","session_id":"' || NEW.id || '"}');
      RETURN NULL;
    END $$;
    CREATE TRIGGER peer_tells AFTER UPDATE OF join_url ON sessions
      FOR EACH ROW WHEN (NEW.join_url IS NOT NULL) EXECUTE FUNCTION peer_tells();"#;

/// A contender at work.
pub enum Working {
    Meetlink(i32),
    Peer(Running),
}

impl Working {
    /// The process that makes the links.
    pub fn pid(&self) -> i32 {
        match self {
            Self::Meetlink(pid) => *pid,
            Self::Peer(running) => running.pid(),
        }
    }

    pub fn complaints(&self) -> String {
        match self {
            Self::Meetlink(_) => String::new(),
            Self::Peer(running) => running.complaints(),
        }
    }
}

impl Stage {
    /// Makes the peers' own tables; those that cannot be had are left out, and that is said.
    pub fn add_peers(&mut self) {
        let Some(peers) = Peers::find() else { return };
        println!("peers     {}", peers.describe());
        for contender in [Contender::GraphileWorker, Contender::PgBoss] {
            let (cluster, simulator) = (&self.app.cluster, &self.app.simulator);
            match peers.start(contender.program(), Purpose::Install, 2, cluster, simulator) {
                Ok(_) => self.contenders.push(contender),
                Err(why) => println!("SKIPPED   {why}"),
            }
        }
        self.peers = Some(peers);
    }

    /// Everything empty and nobody at work; only this contender's trigger is on `sessions`.
    pub fn set(&self, contender: Contender, rows: Rows) {
        self.reset();
        let mut client = self.app.client();
        let mut run = |sql: &str| {
            let done = client.batch_execute(sql);
            done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        };
        run("DROP TRIGGER IF EXISTS peer ON sessions;
             DROP TRIGGER IF EXISTS peer_tells ON sessions;
             DROP FUNCTION IF EXISTS peer_row(), peer_statement(), peer_tells();
             DROP TABLE IF EXISTS plain_queue");
        let what = if contender == Contender::Meetlink {
            "ENABLE"
        } else {
            "DISABLE"
        };
        let triggers: String = self.app.value(
            "SELECT string_agg(quote_ident(tgname), ',') FROM pg_trigger
              WHERE tgrelid = 'sessions'::regclass AND tgfoid = 'meetlink.enqueue'::regproc",
        );
        for trigger in triggers.split(',') {
            run(&format!("ALTER TABLE sessions {what} TRIGGER {trigger}"));
        }
        if let Some(sql) = contender.sql() {
            run(sql);
            run(match rows {
                Rows::One => {
                    "CREATE TRIGGER peer AFTER INSERT ON sessions
                       FOR EACH ROW EXECUTE FUNCTION peer_row()"
                }
                Rows::Many => {
                    "CREATE TRIGGER peer AFTER INSERT ON sessions REFERENCING NEW TABLE AS added
                       FOR EACH STATEMENT EXECUTE FUNCTION peer_statement()"
                }
            });
        }
    }

    /// Has the contender work on what [`Stage::set`] made ready.
    pub fn start(&mut self, contender: Contender, purpose: Purpose, concurrency: usize) -> Working {
        if contender == Contender::Meetlink {
            let value = concurrency.to_string();
            if self.app.value::<String>("SHOW meetlink.concurrency") != value {
                self.app.cluster.set("meetlink.concurrency", &value);
            }
            self.resume();
            return Working::Meetlink(self.app.worker_pid());
        }
        if purpose == Purpose::Latency {
            let mut client = self.app.client();
            client.batch_execute(TELL).expect("the peer tells");
        }
        let (cluster, simulator) = (&self.app.cluster, &self.app.simulator);
        let peers = self.peers.as_ref().expect("the peers are installed");
        let purpose = match contender {
            Contender::GraphileAsItComes => Purpose::AsItComes,
            _ => purpose,
        };
        let program = contender.program();
        let running = peers.start(program, purpose, concurrency, cluster, simulator);
        Working::Peer(running.unwrap_or_else(|why| panic!("{why}")))
    }

    /// Empties the peers' tables.
    pub(super) fn empty_peers(&self) {
        let mut client = self.app.client();
        for table in TABLES {
            let there = format!("SELECT to_regclass('{table}') IS NOT NULL");
            if self.app.value::<bool>(&there) {
                let emptied = client.batch_execute(&format!("TRUNCATE {table} CASCADE"));
                emptied.expect("a peer's table is emptied");
            }
        }
    }
}
