//! Forty tutors, who connect again when they are asked to.

use std::time::Duration;

use meetlink_e2e::app::{App, name_of};
use meetlink_simulator::{AccountSpec, Provider, Simulator};
use postgres::Client;
use uuid::Uuid;

use super::World;

const TUTORS: usize = 40;
/// Short, so that every token is renewed several times.
const ACCESS_LIFETIME_S: u32 = 180;
/// How often they look whether meetlink wants something of them.
const LOOK: Duration = Duration::from_secs(3);

pub struct Tutor {
    pub id: Uuid,
    pub provider: Provider,
    name: String,
}

/// The tutors, every other with Google, the rest with Zoom; and a student.
pub fn make(app: &App) -> (Vec<Tutor>, Uuid) {
    let mut client = app.client();
    let tutors = (0..TUTORS).map(|number| {
        let provider = [Provider::Google, Provider::Zoom][number % 2];
        let name = format!("Tutor {number}");
        let tutor = Tutor {
            id: app.person("tutor", &name).0,
            provider,
            name: name.clone(),
        };
        let spec = AccountSpec {
            access_lifetime_s: ACCESS_LIFETIME_S,
            ..AccountSpec::named(&name)
        };
        app.simulator.add_account(provider, spec);
        tutor
            .connect(&app.simulator, &mut client)
            .expect("the tutor is connected");
        tutor
    });
    (tutors.collect(), app.person("student", "Sam").0)
}

impl Tutor {
    /// The provider accepts the tutor's access tokens no longer, before their time.
    pub fn lose_access(&self, simulator: &Simulator) {
        if let Some(account) = simulator.account(self.provider, &self.name) {
            simulator.expire_access_tokens(&account);
        }
    }

    /// Gives meetlink the tokens that the provider knows now.
    fn connect(&self, simulator: &Simulator, client: &mut Client) -> Result<(), postgres::Error> {
        let account = simulator
            .account(self.provider, &self.name)
            .expect("the tutor has an account");
        client
            .execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[
                    &self.id,
                    &name_of(self.provider),
                    &account.refresh_token,
                    &account.access_token,
                    &account.expires_at,
                ],
            )
            .map(drop)
    }
}

/// Connects again whoever is asked to, until everything has settled; gives how often.
pub fn run(world: &World<'_>) -> usize {
    let mut reconnects = 0;
    while !world.is_settled() {
        for _ in 0..LOOK.as_millis() / 100 {
            if world.is_settled() {
                return reconnects;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let Some(mut client) = world.connect() else {
            continue;
        };
        let query = "SELECT tutor_id FROM tutor_video_provider_connections
                      WHERE connection_status = 'needs_reauth'";
        let asked = client.query(query, &[]).unwrap_or_default();
        for row in asked {
            let id: Uuid = row.get(0);
            let tutor = world.tutors.iter().find(|tutor| tutor.id == id);
            let connected = tutor.map(|tutor| tutor.connect(world.simulator, &mut client));
            // A server that died meanwhile is asked again next time.
            reconnects += usize::from(matches!(connected, Some(Ok(()))));
        }
    }
    reconnects
}
