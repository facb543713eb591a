//! The simulator as a program.

use lexopt::prelude::*;
use meetlink_simulator::{AccountSpec, Latency, Options, Provider, Simulator, Tls};
use std::io::{Read, Write};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
Plays Google Calendar and Zoom Meetings on loopback.

Usage: meetlink-simulator [OPTIONS]

  --listen ADDRESS          where to listen, loopback only   [127.0.0.1:0]
  --tls[=KIND]              speak TLS; KIND is trusted, untrusted, expired or wrong-name
  --ca-file PATH            write the PEM of the authority to trust there
  --google-prefix PATH      stands for googleapis.com/calendar/v3   [/google/calendar/v3]
  --zoom-prefix PATH        stands for api.zoom.us/v2               [/zoom/v2]
                            either may be empty: --zoom-prefix=
  --seed-account SPEC       an account with known tokens; may be repeated. SPEC is
                            PROVIDER:NAME:REFRESH_TOKEN[:ACCESS_TOKEN]
  --latency PROVIDER:API_MS[:TOKEN_MS]
                            the time that a provider's calls take
  --zoom-daily-limit N      creations and updates per account and day   [unlimited]
  --no-bodies               leave request bodies out of the journal
  --workers N               threads that serve   [2]
  --until-stdin-closes      end when standard input does
  --help                    this text

One line of JSON with the addresses goes to standard output once it serves.
It ends on SIGTERM or SIGINT. PROVIDER is google or zoom.

Control, JSON in and out:
  GET    /_sim/urls         the addresses and client credentials
  GET    /_sim/journal      every request          DELETE /_sim/journal  forgets them
  GET    /_sim/meetings     every event and meeting, deleted ones too
  GET    /_sim/stats        requests in flight, now and at most
  POST   /_sim/accounts     {\"provider\":\"zoom\",\"name\":\"ann@zoom.example\"}
  POST   /_sim/accounts/revoke and /_sim/accounts/expire   the same form
  POST   /_sim/faults       {\"provider\":\"zoom\",\"call\":\"create\",\"times\":1,
                             \"action\":{\"kind\":\"reset_after_effect\"}}
  DELETE /_sim/faults       takes all rules back
  POST   /_sim/latency      {\"provider\":\"google\",\"api_ms\":200,\"token_ms\":50}
";

/// What the command line asks for.
struct Wanted {
    options: Options,
    accounts: Vec<(Provider, AccountSpec)>,
    ca_file: Option<String>,
    until_stdin_closes: bool,
    help: bool,
}

fn main() -> ExitCode {
    let wanted = match parse(lexopt::Parser::from_env()) {
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("meetlink-simulator: {error}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    if wanted.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meetlink-simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: lexopt::Parser) -> Result<Wanted, lexopt::Error> {
    let mut wanted = Wanted {
        options: Options {
            control: true,
            ..Options::default()
        },
        accounts: Vec::new(),
        ca_file: None,
        until_stdin_closes: false,
        help: false,
    };
    let options = &mut wanted.options;
    while let Some(arg) = args.next()? {
        match arg {
            Long("listen") => options.listen = args.value()?.parse()?,
            Long("tls") => {
                options.tls = match args.optional_value() {
                    None => Tls::Trusted,
                    Some(kind) => kind.parse_with(tls_kind)?,
                }
            }
            Long("ca-file") => wanted.ca_file = Some(args.value()?.string()?),
            Long("google-prefix") => options.google_prefix = prefix(args.value()?.string()?),
            Long("zoom-prefix") => options.zoom_prefix = prefix(args.value()?.string()?),
            Long("seed-account") => wanted.accounts.push(args.value()?.parse_with(seed)?),
            Long("latency") => match args.value()?.parse_with(latency)? {
                (Provider::Google, latency) => options.google_latency = latency,
                (Provider::Zoom, latency) => options.zoom_latency = latency,
            },
            Long("zoom-daily-limit") => options.zoom_daily_limit = Some(args.value()?.parse()?),
            Long("no-bodies") => options.keep_bodies = false,
            Long("workers") => options.workers = args.value()?.parse()?,
            Long("until-stdin-closes") => wanted.until_stdin_closes = true,
            Short('h') | Long("help") => wanted.help = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok(wanted)
}

/// Prefixes are given with or without a slash at the end.
fn prefix(given: String) -> String {
    given.trim_end_matches('/').into()
}

fn tls_kind(text: &str) -> Result<Tls, String> {
    match text {
        "trusted" => Ok(Tls::Trusted),
        "untrusted" => Ok(Tls::Untrusted),
        "expired" => Ok(Tls::Expired),
        "wrong-name" => Ok(Tls::WrongName),
        _ => Err("expected trusted, untrusted, expired or wrong-name".into()),
    }
}

fn provider(text: &str) -> Result<Provider, String> {
    match text {
        "google" => Ok(Provider::Google),
        "zoom" => Ok(Provider::Zoom),
        _ => Err("expected google or zoom".into()),
    }
}

fn seed(text: &str) -> Result<(Provider, AccountSpec), String> {
    let mut parts = text.splitn(4, ':').map(String::from);
    let which = provider(&parts.next().unwrap_or_default())?;
    let (Some(name), Some(refresh_token)) = (parts.next(), parts.next()) else {
        return Err("expected PROVIDER:NAME:REFRESH_TOKEN[:ACCESS_TOKEN]".into());
    };
    let access_token = parts.next();
    let spec = AccountSpec::named(name);
    Ok((
        which,
        AccountSpec {
            refresh_token: Some(refresh_token),
            access_token,
            ..spec
        },
    ))
}

fn latency(text: &str) -> Result<(Provider, Latency), String> {
    let mut parts = text.split(':');
    let which = provider(parts.next().unwrap_or_default())?;
    let mut number = || match parts.next() {
        Some(text) => text
            .parse()
            .map_err(|_| "expected PROVIDER:API_MS[:TOKEN_MS]".to_string()),
        None => Ok(0),
    };
    Ok((
        which,
        Latency {
            api_ms: number()?,
            token_ms: number()?,
        },
    ))
}

fn run(wanted: Wanted) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    // Before the line that says it serves: whoever reads it may end the program at once.
    let (mut terminated, mut interrupted) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    let simulator = Simulator::start(wanted.options)?;
    for (provider, spec) in wanted.accounts {
        simulator.add_account(provider, spec);
    }
    if let (Some(path), Some(pem)) = (wanted.ca_file, simulator.ca_pem()) {
        std::fs::write(path, pem)?;
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", simulator.urls())?;
    stdout.flush()?;
    let (closed, stdin_closed) = tokio::sync::oneshot::channel::<()>();
    let mut closed = Some(closed);
    if wanted.until_stdin_closes {
        let closed = closed.take();
        // A thread of its own: there is no way to be told of a pipe's end without reading it.
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            drop(closed);
        });
    }
    runtime.block_on(async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            _ = stdin_closed => {}
        }
    });
    Ok(())
}
