//! Faults of the connection itself, seen from a real one.

mod common;
use common::*;
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::*;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn once(s: &Stage, action: Action) {
    s.sim.fault(Rule::once(Zoom, Call::Create, action));
}

#[test]
fn a_reset_before_the_request_is_read_leaves_nothing_behind() {
    let s = stage();
    once(&s, Action::ResetBeforeRequest);
    let (bytes, end) = s.raw(&s.raw_create());
    assert_eq!(
        (bytes.len(), end.unwrap_err().kind()),
        (0, ErrorKind::ConnectionReset)
    );
    let last = s.last();
    assert_eq!(
        (last.fate, last.status, last.effect),
        (Fate::Reset, None, None)
    );
    assert_eq!((last.body, s.meetings()), (Value::Null, 0));
    assert_eq!(s.create().unwrap().status, 201);
}

#[test]
fn a_reset_after_the_effect_leaves_a_meeting_that_the_client_does_not_know() {
    let s = stage();
    once(&s, Action::ResetAfterEffect);
    let (bytes, end) = s.raw(&s.raw_create());
    assert_eq!(
        (bytes.len(), end.unwrap_err().kind()),
        (0, ErrorKind::ConnectionReset)
    );
    let held = s.sim.meetings(Zoom);
    let last = s.last();
    assert_eq!(
        (held.len(), last.effect.unwrap().id),
        (1, held[0].id.clone())
    );
    assert_eq!(
        (last.fate, last.status, last.answered_at),
        (Fate::Reset, None, None)
    );
}

#[test]
fn a_reset_on_accept_meets_whoever_connects() {
    let s = stage();
    let rule = s
        .sim
        .fault(Rule::once(Zoom, Call::Any, Action::ResetOnAccept));
    let mut tcp = TcpStream::connect(s.sim.address()).unwrap();
    let error = tcp.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!((s.sim.fired(rule), s.sim.journal_len()), (1, 0));
    assert_eq!(s.create().unwrap().status, 201);
}

#[test]
fn a_cut_answer_ends_in_the_middle_of_its_body() {
    let s = stage();
    once(&s, Action::CutBody);
    let (bytes, end) = s.raw(&s.raw_create());
    end.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 201"));
    let announced = head.to_lowercase();
    let announced = announced
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .split("\r\n")
        .next();
    assert_eq!(body.len(), announced.unwrap().parse::<usize>().unwrap() / 2);
    assert_eq!((s.last().fate, s.meetings()), (Fate::Cut, 1));
    once(&s, Action::CutBody);
    assert!(s.create().is_err());
}

#[test]
fn a_close_without_an_answer_is_orderly() {
    let s = stage();
    once(&s, Action::Close { effect: false });
    let (bytes, end) = s.raw(&s.raw_create());
    assert_eq!((bytes.len(), end.unwrap(), s.meetings()), (0, 0, 0));
    once(&s, Action::Close { effect: true });
    assert_eq!(s.raw(&s.raw_create()).0.len(), 0);
    assert_eq!((s.last().fate, s.meetings()), (Fate::Closed, 1));
}

#[test]
fn an_endless_body_goes_on() {
    let s = stage();
    once(&s, Action::EndlessBody);
    let mut tcp = TcpStream::connect(s.sim.address()).unwrap();
    tcp.write_all(s.raw_create().as_bytes()).unwrap();
    let mut much = vec![0; 4 << 20];
    tcp.read_exact(&mut much).unwrap();
    assert!(String::from_utf8_lossy(&much[..300]).contains("transfer-encoding: chunked"));
    assert_eq!((s.last().fate, s.meetings()), (Fate::Endless, 1));
}

#[test]
fn a_slow_drip_arrives_a_byte_at_a_time() {
    let s = stage();
    let action = Action::SlowDrip { every_ms: 2 };
    s.sim.fault(Rule::once(Zoom, Call::Delete, action));
    let id = s.create().unwrap().json["id"].to_string();
    let began = Instant::now();
    let reply = s.zoom("DELETE", &format!("/meetings/{id}"), None).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(2 * reply.text.len() as u64 - 2));
    assert!(reply.json.is_object());
    let last = s.last();
    assert_eq!((last.fate, s.meetings()), (Fate::Dripped, 0));
    assert!(last.provider_time().unwrap() >= Duration::from_millis(40));
}

#[test]
fn a_stalled_request_is_read_and_never_answered() {
    let s = stage();
    once(&s, Action::Stall { effect: true });
    let mut tcp = TcpStream::connect(s.sim.address()).unwrap();
    tcp.write_all(s.raw_create().as_bytes()).unwrap();
    until(|| s.sim.journal_len() == 1);
    tcp.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = tcp.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let last = s.last();
    assert_eq!(
        (last.fate, last.status, last.answered_at),
        (Fate::Stalled, None, None)
    );
    assert_eq!((s.sim.in_flight(Zoom).now, s.meetings()), (1, 1));
    drop(tcp);
    until(|| s.sim.in_flight(Zoom).now == 0);
}

#[test]
fn connections_are_kept_alive() {
    let s = stage();
    let mut tcp = TcpStream::connect(s.sim.address()).unwrap();
    let request = s.raw_create().replace("connection: close\r\n", "");
    let mut buffer = [0; 8192];
    for _ in 0..3 {
        tcp.write_all(request.as_bytes()).unwrap();
        let read = tcp.read(&mut buffer).unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 201"));
    }
    assert_eq!(s.meetings(), 3);
}

#[test]
fn the_most_requests_in_flight_is_known() {
    let s = stage();
    let stall = Action::Stall { effect: false };
    s.sim
        .fault(Rule::always(Zoom, Call::Create, stall).times(8));
    let waiting: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut tcp = TcpStream::connect(s.sim.address()).unwrap();
            tcp.write_all(s.raw_create().as_bytes()).unwrap();
            tcp
        })
        .collect();
    until(|| s.sim.in_flight(Zoom).now == 8);
    drop(waiting);
    until(|| s.sim.in_flight(Zoom).now == 0);
    assert_eq!(s.sim.in_flight(Zoom).max, 8);
    s.sim.clear_journal();
    s.create().unwrap();
    assert_eq!(s.sim.in_flight(Zoom).max, 1);
}

#[test]
fn prefixes_can_be_empty() {
    let none = Options {
        google_prefix: "".into(),
        zoom_prefix: "".into(),
        ..Options::default()
    };
    let s = stage_with(none);
    assert_eq!(s.sim.zoom_api_url(), s.sim.url());
    assert_eq!(s.insert("lesson01").unwrap().status, 200);
    assert_eq!(s.create().unwrap().status, 201);
    assert_eq!(s.zoom_refresh(&s.zoom.refresh_token).unwrap().status, 200);
}

#[test]
fn dropping_the_simulator_frees_its_port() {
    let s = stage();
    let address = s.sim.address();
    drop(s);
    assert!(TcpStream::connect(address).is_err());
    let again = Options {
        listen: address,
        ..Options::default()
    };
    assert_eq!(Simulator::start(again).unwrap().address(), address);
}

#[test]
fn only_loopback_is_served() {
    let open = Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..Options::default()
    };
    assert_eq!(
        Simulator::start(open).err().unwrap().kind(),
        ErrorKind::InvalidInput
    );
}
