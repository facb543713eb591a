//! Somebody with a stolen dump and without the key asks meetlink what the tokens in it say.

use meetlink_e2e::app::{App, DATABASE, KEY, Person};
use meetlink_e2e::wait;
use meetlink_simulator::AccountSpec;
use meetlink_simulator::Provider::Zoom;
use postgres::Client;
use std::time::{Duration, Instant};
use uuid::Uuid;

const APP_KEY: (&str, &str) = (
    "app",
    "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f",
);

fn attached(cipher: &str, key: &str) -> App {
    let app = App::with(|options| options.key(APP_KEY.0, APP_KEY.1));
    app.client()
        .batch_execute(&format!(
            "SELECT meetlink_attach(options => '{{\"token_format\": \"{cipher}\", \"token_key\": \"{key}\"}}')"
        ))
        .unwrap();
    app
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The blocks of a stolen `hex(iv):hex(ciphertext)`, the vector first.
fn blocks(stolen: &str) -> Vec<Vec<u8>> {
    let (iv, text) = stolen.split_once(':').unwrap();
    std::iter::once(unhex(iv))
        .chain(unhex(text).chunks(16).map(<[u8]>::to_vec))
        .collect()
}

/// What decrypts to the block's own first bytes, a guess, and the padding if the guess is right.
fn question(before: &[u8], block: &[u8], known: &[u8], guess: u8) -> String {
    let padding = u8::try_from(known.len() + 1).unwrap();
    let mut iv = before.to_vec();
    let at = 15 - known.len();
    iv[at] ^= guess ^ padding;
    for (offset, byte) in known.iter().enumerate() {
        iv[at + 1 + offset] ^= byte ^ padding;
    }
    format!("{}:{}", hex(&iv), hex(block))
}

fn stolen(app: &App, tutor: Person) -> String {
    app.value(&format!(
        "SELECT refresh_token_encrypted FROM tutor_video_provider_connections WHERE tutor_id = '{}'",
        tutor.0
    ))
}

/// Reads a block's bytes from the end, asking one question after the other.
fn read_block(
    before: &[u8],
    block: &[u8],
    bytes: usize,
    mut right: impl FnMut(&[String]) -> Option<usize>,
) -> Option<Vec<u8>> {
    let mut known: Vec<u8> = Vec::new();
    for _ in 0..bytes {
        let guesses: Vec<u8> = (b' '..=b'~').collect();
        let questions: Vec<String> = guesses
            .iter()
            .map(|guess| question(before, block, &known, *guess))
            .collect();
        known.insert(0, guesses[right(&questions)?]);
    }
    Some(known)
}

#[test]
fn a_tutor_cannot_have_the_worker_read_a_stolen_token_to_him() {
    let app = attached("cbc_hex", APP_KEY.0);
    let victim = app.person("tutor", "Vera");
    let account = app.simulator.add_account(Zoom, AccountSpec::named("Vera"));
    app.client()
        .execute(
            "SELECT meetlink_connect($1, 'zoom', $2)",
            &[&victim.0, &account.refresh_token],
        )
        .unwrap();
    let stolen = blocks(&stolen(&app, victim));
    // Mallory is a tutor: one row of her own, as the application's policies allow.
    let mallory = app.tutor(Zoom, "Mallory");
    let mut client = app.client();
    client.batch_execute("SET ROLE authenticated").unwrap();
    client
        .execute(
            "SELECT set_config('request.jwt.claim.sub', $1, false)",
            &[&mallory.0.to_string()],
        )
        .unwrap();
    let junk = "UPDATE tutor_video_provider_connections
                   SET refresh_token_encrypted = '00:00', access_token_encrypted = NULL";
    client.batch_execute(junk).unwrap();
    // Its link never comes: every question is tried for it.
    let session = app.book(mallory, app.person("student", "Sam"));
    let (mut asked, begun) = (0, Instant::now());
    let found = read_block(&stolen[1], &stolen[2], 2, |questions| {
        questions.iter().position(|question| {
            asked += 1;
            begun.elapsed() < Duration::from_secs(15)
                && ask(&mut client, mallory, session, question)
        })
    });
    let right = &account.refresh_token.as_bytes()[30..32];
    assert_ne!(
        found.as_deref(),
        Some(right),
        "{asked} questions in {:?}",
        begun.elapsed()
    );
}

/// Whether the worker could decrypt it, as far as its owner can see.
fn ask(client: &mut Client, mallory: Person, session: Uuid, question: &str) -> bool {
    client
        .execute(
            "UPDATE tutor_video_provider_connections
                SET refresh_token_encrypted = $2, access_token_encrypted = NULL,
                    connection_status = 'connected' WHERE tutor_id = $1",
            &[&mallory.0, &question],
        )
        .unwrap();
    client.query("SELECT meetlink_retry($1)", &[&session]).ok();
    // Not to be answered for long is as good a defence as not to be told. The attempt for the change
    // and the one for the retry may both be under way: believed is what is seen three times.
    let asked = Instant::now();
    let mut seen = 0;
    wait::until(Duration::from_secs(5), "an answer, or two seconds", || {
        let row = client
            .query_one("SELECT meetlink_status($1)", &[&session])
            .unwrap();
        let status: serde_json::Value = row.get(0);
        let over = !matches!(status["state"].as_str(), Some("pending" | "creating"));
        seen = if over { seen + 1 } else { 0 };
        if asked.elapsed() > Duration::from_secs(2) {
            return Some(false);
        }
        let marked = "SELECT connection_status = 'needs_reauth'
                        FROM tutor_video_provider_connections WHERE tutor_id = $1";
        (seen >= 3).then(|| client.query_one(marked, &[&mallory.0]).unwrap().get(0))
    })
}

/// Who may write rows and see which of them open could read any token that he has encrypted: whoever
/// does not own the table may not ask.
#[test]
fn meetlink_adopt_tokens_is_for_the_owner_of_the_table() {
    let app = attached("cbc_hex", APP_KEY.0);
    let victim = app.person("tutor", "Vera");
    app.client()
        .execute("SELECT meetlink_connect($1, 'zoom', 'token')", &[&victim.0])
        .unwrap();
    app.client()
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION meetlink_adopt_tokens(integer) TO service_role, app_owner;
             ALTER ROLE service_role LOGIN; ALTER ROLE app_owner LOGIN",
        )
        .unwrap();
    let ask = |role: &str| {
        let mut client = app.cluster.connect(DATABASE, role);
        client.query_one("SELECT reencrypted FROM meetlink_adopt_tokens()", &[])
    };
    let refused = ask("service_role").expect_err("not the owner");
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"));
    let done: i64 = ask("app_owner").expect("the owner").get(0);
    assert_eq!(done, 1);
}

/// A key that seals `ml1` must not be at the service of another format.
#[test]
fn the_key_of_ml1_envelopes_is_no_key_of_the_application() {
    let app = App::with(|options| options.key(APP_KEY.0, APP_KEY.1));
    let done = app.client().batch_execute(&format!(
        "SELECT meetlink_attach(options => '{{\"token_format\": \"cbc_hex\", \"token_key\": \"{}\"}}')",
        KEY.0
    ));
    assert!(
        done.is_err(),
        "the first key of the key file serves as token_key"
    );
}
