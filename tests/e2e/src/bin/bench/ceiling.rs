//! What the simulated providers give at most: so many connections, kept alive, each asking for one
//! meeting after another, and nothing else on the machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meetlink_simulator::Provider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::Stage;

/// Meetings a second over so many connections, as many of Google's as of Zoom's.
pub fn rate(stage: &Stage, connections: usize, time: Duration) -> f64 {
    let address = stage.app.simulator.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let done = Arc::new(AtomicU64::new(0));
    // Ids of Google's events must be new to it.
    let first = Instant::now()
        .duration_since(stage.app.simulator.epoch())
        .as_nanos();
    let numbers = Arc::new(AtomicU64::new(u64::try_from(first).unwrap_or(0)));
    let begun = Instant::now();
    runtime.block_on(async {
        let mut lines = Vec::new();
        for at in 0..connections {
            let (provider, token) = stage.tokens[at % stage.tokens.len()].clone();
            let (done, numbers) = (done.clone(), numbers.clone());
            lines.push(tokio::spawn(async move {
                line(address, provider, &token, begun + time, &numbers, &done).await
            }));
        }
        for line in lines {
            let ended = line.await.expect("a connection's task ends");
            ended.expect("the simulator answers");
        }
    });
    let took = begun.elapsed().as_secs_f64();
    stage.app.simulator.clear_journal();
    done.load(Ordering::Relaxed) as f64 / took
}

async fn line(
    address: SocketAddr,
    provider: Provider,
    token: &str,
    until: Instant,
    numbers: &AtomicU64,
    done: &AtomicU64,
) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut answer = vec![0; 16 * 1024];
    while Instant::now() < until {
        let request = request(provider, token, numbers.fetch_add(1, Ordering::Relaxed));
        tcp.write_all(request.as_bytes()).await?;
        let read = tcp.read(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer[..read]);
        if !text.starts_with("HTTP/1.1 20") {
            return Err(std::io::Error::other(text.into_owned()));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn request(provider: Provider, token: &str, number: u64) -> String {
    let (path, body) = match provider {
        Provider::Zoom => (
            "/zoom/v2/users/me/meetings",
            format!(
                r#"{{"topic":"Tutoring session: Tutor 1 and Sam Student","type":2,"start_time":"2030-01-01T10:00:00Z","duration":60,"timezone":"UTC","agenda":"Made for a booked tutoring session (meetlink:{number:032})."}}"#
            ),
        ),
        Provider::Google => (
            "/google/calendar/v3/calendars/primary/events?conferenceDataVersion=1&sendUpdates=none",
            format!(
                r#"{{"id":"ml{number:032}g0","summary":"Tutoring session: Tutor 1 and Sam Student","description":"Made for a booked tutoring session (meetlink:{number:032}).","start":{{"dateTime":"2030-01-01T10:00:00Z","timeZone":"UTC"}},"end":{{"dateTime":"2030-01-01T11:00:00Z","timeZone":"UTC"}},"conferenceData":{{"createRequest":{{"requestId":"ml{number:032}g0-0","conferenceSolutionKey":{{"type":"hangoutsMeet"}}}}}}}}"#
            ),
        ),
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: simulator\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
