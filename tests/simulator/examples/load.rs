//! Measures the simulator: so many connections, each creating Zoom meetings one after another.
//! `cargo run --release -p meetlink-simulator --example load -- CONNECTIONS SECONDS LATENCY_MS`

use meetlink_simulator::{AccountSpec, Latency, Options, Provider, Simulator};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let connections: usize = args.next().unwrap_or(512);
    let seconds = args.next().unwrap_or(5) as u64;
    let api_ms = args.next().unwrap_or(0) as u64;
    let zoom_latency = Latency {
        api_ms,
        token_ms: 0,
    };
    let simulator = Simulator::start(Options {
        zoom_latency,
        ..Options::default()
    })?;
    let account = simulator.add_account(Provider::Zoom, AccountSpec::default());
    let body = r#"{"topic":"Lesson","type":2,"start_time":"2030-01-01T10:00:00Z","duration":60,
        "timezone":"Europe/Berlin","agenda":"meetlink:0123456789abcdef"}"#;
    let request = format!(
        "POST /zoom/v2/users/me/meetings HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        account.access_token,
        body.len()
    );
    let (request, done) = (Arc::new(request), Arc::new(AtomicU64::new(0)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let began = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (request, done) = (request.clone(), done.clone());
                let address = simulator.address();
                tokio::spawn(async move {
                    let mut tcp = TcpStream::connect(address).await.expect("connect");
                    let mut buffer = vec![0; 16 * 1024];
                    while began.elapsed() < Duration::from_secs(seconds) {
                        tcp.write_all(request.as_bytes()).await.expect("write");
                        let read = tcp.read(&mut buffer).await.expect("read");
                        assert!(buffer[..read].starts_with(b"HTTP/1.1 201"));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a connection failed");
        }
    });
    let took = began.elapsed();
    let done = done.load(Ordering::Relaxed);
    let mut times: Vec<_> = simulator
        .journal()
        .iter()
        .filter_map(|entry| entry.provider_time())
        .collect();
    times.sort();
    println!("{done} requests on {connections} connections in {took:?}");
    println!("{:.0} requests/s", done as f64 / took.as_secs_f64());
    println!("provider's own time: median {:?}", times[times.len() / 2]);
    println!(
        "provider's own time: 99% {:?}",
        times[times.len() * 99 / 100]
    );
    println!(
        "meetings held: {}",
        simulator.meetings(Provider::Zoom).len()
    );
    println!(
        "most in flight: {}",
        simulator.in_flight(Provider::Zoom).max
    );
    Ok(())
}
