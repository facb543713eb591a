//! The program and its control interface.

mod common;
use common::*;
use meetlink_simulator::{Account, Entry, Meeting};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_meetlink-simulator");

struct Running {
    child: Child,
    urls: Value,
    agent: ureq::Agent,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut child = Command::new(PROGRAM)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Running {
            child,
            urls: serde_json::from_str(&line).unwrap(),
            agent: agent(),
        }
    }

    fn post(&self, path: &str, body: Value) -> Reply {
        let url = format!("{}{path}", self.urls["url"].as_str().unwrap());
        read(self.agent.post(url).send(body.to_string()).unwrap()).unwrap()
    }

    fn get(&self, path: &str) -> Reply {
        let url = format!("{}{path}", self.urls["url"].as_str().unwrap());
        read(self.agent.get(url).call().unwrap()).unwrap()
    }

    fn create(&self, token: &str) -> Result<Reply, ureq::Error> {
        let url = format!(
            "{}/users/me/meetings",
            self.urls["zoom_api_url"].as_str().unwrap()
        );
        let request = self
            .agent
            .post(url)
            .header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {token}"));
        read(request.send(meeting("lesson").to_string())?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn seeded_accounts_and_the_control_interface_work() {
    let program = Running::start(&["--seed-account", "zoom:ann@zoom.example:refresh-1:access-1"]);
    assert_eq!(program.create("access-1").unwrap().status, 201);
    let fault = json!({"provider": "zoom", "call": "create", "times": 1,
        "action": {"kind": "reset_after_effect"}});
    assert_eq!(program.post("/_sim/faults", fault).json, json!({"id": 1}));
    assert!(program.create("access-1").is_err());
    let journal: Vec<Entry> = serde_json::from_value(program.get("/_sim/journal").json).unwrap();
    assert_eq!(journal.len(), 2);
    let held = program.get("/_sim/meetings").json;
    let held: Vec<Meeting> = serde_json::from_value(held["zoom"].clone()).unwrap();
    assert_eq!(
        (held.len(), held[0].account.as_str()),
        (2, "ann@zoom.example")
    );
    let new = program.post("/_sim/accounts", json!({"provider": "zoom", "name": "bob"}));
    let new: Account = serde_json::from_value(new.json).unwrap();
    assert_eq!(program.create(&new.access_token).unwrap().status, 201);
    program.post(
        "/_sim/accounts/expire",
        json!({"provider": "zoom", "name": "bob"}),
    );
    assert_eq!(program.create(&new.access_token).unwrap().status, 401);
    let latency = json!({"provider": "zoom", "api_ms": 20});
    assert_eq!(program.post("/_sim/latency", latency).status, 200);
    program.create("access-1").unwrap();
    let stats = program.get("/_sim/stats").json;
    assert_eq!(
        (&stats["journal_entries"], &stats["zoom"]["max"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(
        program
            .post("/_sim/faults", json!({"action": {"kind": "odd"}}))
            .status,
        400
    );
    assert_eq!(program.get("/_sim/unknown").status, 404);
}

#[test]
fn it_ends_when_standard_input_closes_if_told_to() {
    let mut program = Running::start(&["--until-stdin-closes"]);
    drop(program.child.stdin.take());
    assert!(program.child.wait().unwrap().success());
}

#[test]
fn it_ends_in_good_order_on_sigterm() {
    let mut program = Running::start(&[]);
    let pid = program.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(program.child.wait().unwrap().success());
}

#[test]
fn help_is_given_and_mistakes_are_named() {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--listen"));
    for wrong in [
        &["--odd"][..],
        &["--seed-account", "zoom"],
        &["--latency", "zoom:x"],
    ] {
        let output = Command::new(PROGRAM).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let open = Command::new(PROGRAM)
        .args(["--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(open.status.code(), Some(1));
}
