//! The reference application on a cluster of its own, with the provider simulator beside it.

use std::time::Duration;

use meetlink_simulator::{AccountSpec, Options, Provider, Simulator};
use postgres::Client;
use serde_json::Value;
use uuid::Uuid;

use crate::{Cluster, ClusterOptions, wait};

/// Name of the application's database.
pub const DATABASE: &str = "app";

/// The key that the application's tokens are encrypted with.
pub const KEY: (&str, &str) = (
    "k1",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
);

const REFERENCE_APP: &str = include_str!("../../../sql/reference_app.sql");

/// How long a link may take in a test before something is wrong.
pub const SOON: Duration = Duration::from_secs(20);

/// Cluster, simulator, and the application in between.
pub struct App {
    /// The server.
    pub cluster: Cluster,
    /// Google and Zoom.
    pub simulator: Simulator,
}

/// A tutor or a student.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person(pub Uuid);

/// Settings that point meetlink at a simulator, and waits that suit a test.
pub fn options_for(simulator: &Simulator) -> ClusterOptions {
    ClusterOptions::new()
        .key(KEY.0, KEY.1)
        .set("meetlink.google_token_url", &simulator.google_token_url())
        .set("meetlink.google_api_url", &simulator.google_api_url())
        .set("meetlink.zoom_token_url", &simulator.zoom_token_url())
        .set("meetlink.zoom_api_url", &simulator.zoom_api_url())
        .set("meetlink.backoff_base", "50ms")
        .set("meetlink.backoff_max", "2s")
        .set("meetlink.settle_time", "500ms")
        .set("meetlink.request_timeout", "5s")
}

/// The name that the simulator and meetlink share for a provider.
pub fn name_of(provider: Provider) -> &'static str {
    match provider {
        Provider::Google => "google_meet",
        Provider::Zoom => "zoom",
    }
}

impl App {
    /// Everything up and attached, both OAuth clients configured.
    pub fn start() -> Self {
        Self::with(|options| options)
    }

    /// The same with other settings.
    pub fn with(change: impl FnOnce(ClusterOptions) -> ClusterOptions) -> Self {
        Self::with_simulator(Options::default(), change)
    }

    /// The same with another simulator.
    pub fn with_simulator(
        simulator: Options,
        change: impl FnOnce(ClusterOptions) -> ClusterOptions,
    ) -> Self {
        let app = Self::unattached(simulator, change);
        app.attach();
        app
    }

    /// The application, without the extension.
    pub fn unattached(
        simulator: Options,
        change: impl FnOnce(ClusterOptions) -> ClusterOptions,
    ) -> Self {
        let simulator = Simulator::start(simulator).expect("the simulator starts");
        let options = change(options_for(&simulator));
        let app = Self {
            cluster: Cluster::start(options),
            simulator,
        };
        app.cluster.create_database(DATABASE);
        let mut client = app.client();
        client
            .batch_execute(REFERENCE_APP)
            .expect("the reference application is created");
        app
    }

    /// Installs the extension, attaches it, configures both providers, and grants what README says.
    pub fn attach(&self) {
        let mut client = self.client();
        client
            .batch_execute(
                "CREATE EXTENSION meetlink;
                 SELECT meetlink_attach();
                 GRANT EXECUTE ON FUNCTION meetlink_status(uuid), meetlink_retry(uuid),
                   meetlink_wait(uuid, interval) TO authenticated;",
            )
            .expect("meetlink is installed and attached");
        for provider in [Provider::Google, Provider::Zoom] {
            let (id, secret) = self.simulator.client(provider);
            client
                .execute(
                    "SELECT meetlink_configure_provider($1, $2, $3)",
                    &[&name_of(provider), &id, &secret],
                )
                .expect("the provider is configured");
        }
    }

    /// A connection as superuser.
    pub fn client(&self) -> Client {
        self.cluster.connect(DATABASE, "postgres")
    }

    /// A person of the application.
    pub fn person(&self, role: &str, name: &str) -> Person {
        let email = format!("{}@example.org", name.to_lowercase().replace(' ', "."));
        let row = self
            .client()
            .query_one(
                "INSERT INTO profiles (full_name, email, role) VALUES ($1, $2, $3) RETURNING id",
                &[&name, &email, &role],
            )
            .expect("a profile is made");
        Person(row.get(0))
    }

    /// A tutor with an account at a provider, connected.
    pub fn tutor(&self, provider: Provider, name: &str) -> Person {
        let tutor = self.person("tutor", name);
        self.connect(tutor, provider, AccountSpec::named(name));
        tutor
    }

    /// Gives a person an account at a provider and connects it.
    pub fn connect(&self, tutor: Person, provider: Provider, account: AccountSpec) {
        let account = self.simulator.add_account(provider, account);
        self.client()
            .execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[
                    &tutor.0,
                    &name_of(provider),
                    &account.refresh_token,
                    &account.access_token,
                    &account.expires_at,
                ],
            )
            .expect("the tutor is connected");
    }

    /// Confirms a booking as the tutor, in the role `authenticated`, an hour ahead; gives the
    /// session that the application's own trigger made.
    pub fn book(&self, tutor: Person, student: Person) -> Uuid {
        self.book_in(tutor, student, Duration::from_secs(3_600))
    }

    /// The same, with another time until the session starts.
    pub fn book_in(&self, tutor: Person, student: Person, ahead: Duration) -> Uuid {
        let mut client = self.client();
        let mut transaction = client.transaction().expect("a transaction");
        self.act_as(&mut transaction, tutor);
        let seconds = ahead.as_secs_f64();
        let booking: Uuid = transaction
            .query_one(
                "INSERT INTO bookings (tutor_id, student_id, confirmed_start_at, confirmed_end_at)
                 VALUES ($1, $2, now() + $3 * interval '1 s',
                         now() + ($3 + 3000) * interval '1 s')
                 RETURNING id",
                &[&tutor.0, &student.0, &seconds],
            )
            .expect("a booking is made")
            .get(0);
        transaction
            .execute(
                "UPDATE bookings SET status = 'CONFIRMED' WHERE id = $1",
                &[&booking],
            )
            .expect("the booking is confirmed");
        let session = transaction
            .query_one("SELECT id FROM sessions WHERE booking_id = $1", &[&booking])
            .expect("the application's trigger made a session")
            .get(0);
        transaction.commit().expect("the booking commits");
        session
    }

    /// Makes the rest of a transaction run as a person of the application.
    pub fn act_as(&self, transaction: &mut postgres::Transaction<'_>, person: Person) {
        transaction
            .batch_execute(&format!(
                "SET LOCAL ROLE authenticated; SET LOCAL request.jwt.claim.sub = '{}'",
                person.0
            ))
            .expect("the role is taken");
    }

    /// What a person is told about a session.
    pub fn status_as(&self, person: Person, session: Uuid) -> Value {
        self.try_status_as(person, session)
            .expect("a status is given")
    }

    /// The same, with the error if there is one.
    pub fn try_status_as(&self, person: Person, session: Uuid) -> Result<Value, postgres::Error> {
        let mut client = self.client();
        let mut transaction = client.transaction()?;
        self.act_as(&mut transaction, person);
        Ok(transaction
            .query_one("SELECT meetlink_status($1)", &[&session])?
            .get(0))
    }

    /// What a superuser is told about a session.
    pub fn status(&self, session: Uuid) -> Value {
        self.client()
            .query_one("SELECT meetlink_status($1)", &[&session])
            .expect("a status is given")
            .get(0)
    }

    /// Waits until a session has a state; gives its status.
    pub fn wait_for_state(&self, session: Uuid, state: &str) -> Value {
        let mut client = self.client();
        wait::until(SOON, &format!("session {session} to be {state}"), || {
            let row = client
                .query_one("SELECT meetlink_status($1)", &[&session])
                .ok()?;
            let status: Value = row.get(0);
            (status["state"] == state).then_some(status)
        })
    }

    /// Waits for a session's link.
    pub fn wait_for_link(&self, session: Uuid) -> String {
        let status = self.wait_for_state(session, "ready");
        status["join_url"]
            .as_str()
            .expect("a ready session has its link")
            .to_owned()
    }

    /// A single value from the database.
    pub fn value<T>(&self, query: &str) -> T
    where
        T: for<'a> postgres::types::FromSql<'a>,
    {
        self.client()
            .query_one(query, &[])
            .expect("a query is answered")
            .get(0)
    }

    /// Waits until a query gives true.
    pub fn wait_until(&self, what: &str, query: &str) {
        let mut client = self.client();
        wait::until_true(SOON, what, || {
            client
                .query_one(query, &[])
                .is_ok_and(|row| row.get::<_, bool>(0))
        });
    }

    /// Pid of the worker, once there is one.
    pub fn worker_pid(&self) -> i32 {
        let mut client = self.client();
        wait::until(SOON, "a worker", || {
            client
                .query_opt("SELECT pid FROM meetlink.workers", &[])
                .ok()??
                .get(0)
        })
    }
}
