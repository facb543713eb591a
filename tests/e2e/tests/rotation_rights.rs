//! Who may have tokens encrypted anew, where, and as whom the application's own code runs.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod prov;
#[path = "support/rotating.rs"]
mod rotating;
#[path = "support/standby.rs"]
mod standby;

use applications::{CBC_HEX, OWN_KEY, PASSPHRASE, app_with_key, attach};
use life::refusal;
use meetlink_e2e::app::{App, DATABASE, KEY};
use postgres::Client;
use rotating::{ADOPT, NEW, ROTATE, batch, put_keys, tutors};

fn code_of(client: &mut Client, statement: &str) -> String {
    refusal(client.batch_execute(statement)).0
}

#[test]
fn who_may_not_or_asks_for_nonsense_is_refused() {
    let app = App::start();
    app.cluster.psql(DATABASE, "CREATE ROLE passer_by LOGIN");
    let mut client = app.client();
    for function in [ROTATE, ADOPT] {
        for role in ["passer_by", "authenticated", "app_owner"] {
            let call = format!("SET ROLE {role}; SELECT {function}()");
            assert_eq!(code_of(&mut app.client(), &call), "42501", "{role}");
        }
        let read_only = format!("BEGIN READ ONLY; SELECT {function}(5)");
        assert_eq!(code_of(&mut app.client(), &read_only), "25006");
        for most in ["0", "-1"] {
            let call = format!("SELECT {function}({most})");
            assert_eq!(code_of(&mut client, &call), "22023", "{call}");
        }
    }
    // Nothing to adopt where the application has no form of its own.
    assert_eq!(
        code_of(&mut client, "SELECT meetlink_adopt_tokens()"),
        "55000"
    );
}

#[test]
fn a_standby_says_that_it_cannot() {
    let app = App::start();
    let standby = standby::standby_of(&app);
    standby::catch_up(&app, &standby);
    for function in [ROTATE, ADOPT] {
        let mut client = standby.connect(DATABASE, "postgres");
        assert_eq!(
            code_of(&mut client, &format!("SELECT {function}()")),
            "25006"
        );
    }
}

/// The tables' owner has a trigger on the connections and wants more than it has.
#[test]
fn the_applications_triggers_run_as_the_tables_owner() {
    let app = app_with_key(PASSPHRASE);
    tutors(&app, 2);
    attach(&app, &CBC_HEX.options());
    tutors(&app, 2);
    app.cluster.psql(
        DATABASE,
        "SET ROLE app_owner;
         CREATE TABLE seen (who text);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           INSERT INTO seen VALUES (current_user);
           BEGIN SET ROLE postgres; EXCEPTION WHEN OTHERS THEN NULL; END;
           BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
           BEGIN RESET SESSION AUTHORIZATION; EXCEPTION WHEN OTHERS THEN NULL; END;
           BEGIN ALTER ROLE app_owner SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
           INSERT INTO seen VALUES (current_user);
           RETURN NEW;
         END $$;
         CREATE TRIGGER look BEFORE UPDATE ON tutor_video_provider_connections
           FOR EACH ROW EXECUTE FUNCTION look();
         RESET ROLE;
         CREATE ROLE keeper LOGIN;
         GRANT EXECUTE ON FUNCTION meetlink_rotate_keys(integer), meetlink_adopt_tokens(integer)
           TO keeper",
    );
    put_keys(&app, &[NEW, KEY, (OWN_KEY, PASSPHRASE)]);
    // A role with nothing but the grant, and a superuser.
    let mut keeper = app.cluster.connect(DATABASE, "keeper");
    for (client, function) in [(&mut keeper, ROTATE), (&mut app.client(), ADOPT)] {
        app.cluster.psql(DATABASE, "TRUNCATE seen");
        assert_eq!(batch(client, function, 9, "connections"), (2, 0, 0));
        let seen = "SELECT string_agg(DISTINCT who, ',') || count(*) FROM seen";
        assert_eq!(app.value::<String>(seen), "app_owner4");
        let who: String = client
            .query_one("SELECT current_user::text", &[])
            .expect("somebody")
            .get(0);
        assert_eq!(
            who,
            if function == ROTATE {
                "keeper"
            } else {
                "postgres"
            }
        );
    }
    let super_now = "SELECT rolsuper FROM pg_roles WHERE rolname = 'app_owner'";
    assert!(!app.value::<bool>(super_now));
}
