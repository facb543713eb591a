//! A letter that a test's mail server has taken over.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Python's parser of letters, which decodes what there is to decode.
const PARSER: &str = r#"
import email, email.policy, json, sys
letter = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
print(json.dumps({"headers": {k.lower(): str(v) for k, v in letter.items()},
                  "text": letter.get_content().replace("\r\n", "\n"), "defects": [str(d) for d in letter.defects]}))
"#;

/// A letter that was taken over.
#[derive(Clone, Debug)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    /// Who had logged in, and how.
    pub login: Option<(String, String)>,
    pub tls: bool,
    /// Byte for byte.
    pub content: Vec<u8>,
}

impl Received {
    /// `{"headers": {name in lower case: decoded value}, "text", "defects"}`.
    pub fn parsed(&self) -> Value {
        let mut python = Command::new("python3")
            .args(["-c", PARSER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut input = python.stdin.take().expect("its input");
        input.write_all(&self.content).expect("a letter");
        drop(input);
        let output = python.wait_with_output().expect("python3 ends");
        serde_json::from_slice(&output.stdout).expect("a letter that can be parsed")
    }
}
