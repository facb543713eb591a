//! Tokens that the application encrypts itself: what real Node and real Python write serves, and
//! what meetlink writes back they read.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/prov.rs"]
mod prov;

use applications::{
    Application, CBC_HEX, Form, GCM_BASE64, GCM_HEX, HEX, ML1, PASSPHRASE, app_with_key, attach,
    expire_all, form, store, stored,
};
use chrono::Utc;
use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{AccountSpec, Call};
use prov::{connect, connection_status, count};

const BOTH: [Provider; 2] = [Google, Zoom];

/// Session after session of a tutor, the access token over each time; the application reads after
/// each what the provider granted.
fn serve(
    app: &App,
    program: &Application,
    form: Form,
    (of, tutor, name): (Provider, Person, &str),
    rounds: u64,
) {
    let student = app.person("student", "Sam");
    let account = app.simulator.account(of, name).expect("an account");
    let mut before = stored(app, tutor);
    for round in 1..=rounds {
        app.wait_for_link(app.book(tutor, student));
        let uses = app.simulator.token_use(&account);
        assert_eq!((uses.refreshes, uses.killed_token_used), (round, 0));
        program.assert_reads(app, form, tutor, of, name);
        let after = stored(app, tutor);
        assert_ne!(
            after[0], before[0],
            "{name}: the new access token is stored"
        );
        assert_eq!(after[1] != before[1], of == Zoom, "{name}: Zoom rotates");
        // Not over yet: used as it was stored.
        app.wait_for_link(app.book(tutor, student));
        assert_eq!(app.simulator.token_use(&account).refreshes, round);
        before = after;
        expire_all(app);
    }
    assert_eq!(connection_status(app, tutor), "connected");
}

/// Each language encrypts, meetlink serves and writes back, and both languages read.
fn in_both_languages(forms: &[Form], key: &str) {
    let app = app_with_key(key);
    let programs = Application::all(&app);
    for form in forms {
        attach(&app, &form.options());
        let providers = if form.iv == 12 || *form == CBC_HEX {
            &BOTH[..]
        } else {
            &BOTH[1..]
        };
        for program in &programs {
            for of in providers.iter().copied() {
                let name = format!("{} {form:?} {of:?}", program.language);
                let tutor = program.stale_tutor(&app, *form, of, &name);
                serve(&app, program, *form, (of, tutor, &name), 2);
                let others = programs.iter().filter(|p| p.language != program.language);
                for other in others {
                    other.assert_reads(&app, *form, tutor, of, &name);
                }
            }
        }
    }
}

#[test]
fn gcm_in_hex_is_read_and_written_back() {
    in_both_languages(&[GCM_HEX, form("gcm_hex", 16)], HEX);
}

#[test]
fn gcm_in_base64_is_read_and_written_back() {
    in_both_languages(&[GCM_BASE64, form("gcm_base64", 16)], PASSPHRASE);
}

#[test]
fn cbc_in_hex_is_read_and_written_back() {
    in_both_languages(&[CBC_HEX], PASSPHRASE);
}

#[test]
fn envelopes_are_read_and_written_back() {
    in_both_languages(&[ML1], HEX);
}

#[test]
fn what_connect_writes_the_application_reads() {
    let app = app_with_key(PASSPHRASE);
    let programs = Application::all(&app);
    for form in [GCM_HEX, GCM_BASE64, CBC_HEX, ML1] {
        attach(&app, &form.options());
        for (program, of) in programs.iter().zip(BOTH) {
            let name = format!("{} {form:?} {of:?}", program.language);
            let (tutor, account) = prov::stale_tutor(&app, of, &name);
            program.assert_reads(&app, form, tutor, of, &name);
            let first = stored(&app, tutor);
            serve(&app, program, form, (of, tutor, &name), 1);

            // The same tokens once more: never encrypted in the same way.
            let access = Some((account.access_token.as_str(), Utc::now()));
            connect(&app, tutor, of, &account.refresh_token, access);
            let again = stored(&app, tutor);
            assert!(first[0] != again[0] && first[1] != again[1], "{name}");
        }
    }
}

/// Some rows were adopted or come from a part of the application that writes envelopes.
#[test]
fn an_envelope_stays_one_whatever_form_is_configured() {
    let app = app_with_key(HEX);
    let programs = Application::all(&app);
    for form in [GCM_HEX, GCM_BASE64, CBC_HEX] {
        attach(&app, &form.options());
        for program in &programs {
            let name = format!("{} beside {form:?}", program.language);
            let tutor = program.stale_tutor(&app, ML1, Zoom, &name);
            serve(&app, program, ML1, (Zoom, tutor, &name), 1);
        }
    }
}

#[test]
fn an_access_token_that_lasts_is_used_without_asking_for_another() {
    let app = app_with_key(PASSPHRASE);
    let student = app.person("student", "Sam");
    let programs = Application::all(&app);
    for form in [GCM_HEX, GCM_BASE64, CBC_HEX, ML1] {
        attach(&app, &form.options());
        for program in &programs {
            let name = format!("{} {form:?}", program.language);
            let account = app.simulator.add_account(Zoom, AccountSpec::named(&name));
            let tutor = app.person("tutor", &name);
            program.store(&app, form, tutor, &account, account.expires_at);
            let before = stored(&app, tutor);
            app.wait_for_link(app.book(tutor, student));
            assert_eq!(stored(&app, tutor), before);
        }
    }
    assert_eq!(count(&app, Zoom, Call::Token), 0);
}

/// Where the access token is of no use, the refresh token alone does: absent, empty, or unreadable.
#[test]
fn a_refresh_token_alone_does() {
    let app = app_with_key(HEX);
    let student = app.person("student", "Sam");
    let programs = Application::all(&app);
    for form in [GCM_HEX, GCM_BASE64, CBC_HEX] {
        attach(&app, &form.options());
        for (program, access) in programs.iter().zip(["", "not encrypted at all"]) {
            let name = format!("{} {form:?} {access:?}", program.language);
            let tutor = app.person("tutor", &name);
            let account = app.simulator.add_account(Zoom, AccountSpec::named(&name));
            let token = &account.refresh_token;
            let refresh = program.encrypt(form, tutor, Zoom, "refresh", token);
            store(&app, tutor, Zoom, [access, &refresh], account.expires_at);
            app.wait_for_link(app.book(tutor, student));
            program.assert_reads(&app, form, tutor, Zoom, &name);
        }
    }
}
