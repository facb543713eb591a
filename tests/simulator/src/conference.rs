//! Meet conferences: made asynchronously, once per request id.

use crate::answer::google_conference_type;
use crate::google::{Judged, Scene, refuse};
use crate::types::Conference;
use serde_json::{Map, Value, json};

/// The conference, or the attempt at one, that an event has.
#[derive(Debug)]
pub(crate) struct Held {
    pub request_id: String,
    code: String,
    /// When the attempt is decided; none means never.
    decided_ns: Option<u64>,
    succeeds: bool,
}

/// The request id of `conferenceData`; none if it asks for nothing new.
pub(crate) fn request_id(wanted: &Value, meet_allowed: bool) -> Judged<Option<String>> {
    let Some(create) = wanted
        .get("createRequest")
        .filter(|create| !create.is_null())
    else {
        // A client that sends back the conference it has read changes nothing.
        return match wanted.get("conferenceId") {
            Some(_) => Ok(None),
            None => refuse(400, "invalid", "Invalid conference data."),
        };
    };
    let kind = &create["conferenceSolutionKey"]["type"];
    if !meet_allowed || !(kind.is_null() || kind == "hangoutsMeet") {
        return Err(Box::new(google_conference_type()));
    }
    match create["requestId"].as_str() {
        Some(id) if !id.is_empty() => Ok(Some(id.into())),
        _ => refuse(400, "required", "Missing conference request ID."),
    }
}

impl Held {
    pub fn new(request_id: String, serial: u64, scene: &Scene, attempt: u32) -> Held {
        let now = scene.now.mono_ns;
        let after = |ms: u64| Some(now + ms * 1_000_000);
        let (decided_ns, succeeds) = match scene.conference {
            Conference::Immediate => (Some(now), true),
            Conference::PendingForMs(ms) => (after(ms), true),
            Conference::PendingForever => (None, false),
            Conference::Failure => (Some(now), false),
            Conference::FailureAfterMs(ms) => (after(ms), false),
            Conference::FailureThenSuccess => (Some(now), attempt > 1),
        };
        Held {
            request_id,
            code: meeting_code(serial),
            decided_ns,
            succeeds,
        }
    }

    fn status(&self, now_ns: u64) -> &'static str {
        match self.decided_ns {
            Some(at) if at <= now_ns && self.succeeds => "success",
            Some(at) if at <= now_ns => "failure",
            _ => "pending",
        }
    }

    /// The link, once there is one.
    pub fn link(&self, now_ns: u64) -> Option<String> {
        let made = self.status(now_ns) == "success";
        made.then(|| format!("https://meet.google.com/{}", self.code))
    }

    pub fn render(&self, event: &mut Map<String, Value>, now_ns: u64) {
        let mut data = json!({"createRequest": {
            "requestId": self.request_id,
            "conferenceSolutionKey": {"type": "hangoutsMeet"},
            "status": {"statusCode": self.status(now_ns)},
        }});
        if let Some(link) = self.link(now_ns) {
            data["entryPoints"] = json!([{
                "entryPointType": "video",
                "uri": link,
                "label": format!("meet.google.com/{}", self.code),
            }]);
            data["conferenceSolution"] = json!({
                "key": {"type": "hangoutsMeet"},
                "name": "Google Meet",
                "iconUri": "https://fonts.gstatic.com/s/i/productlogos/meet_2020q4/v6/meet.png",
            });
            data["conferenceId"] = json!(self.code);
            event.insert("hangoutLink".into(), json!(link));
        }
        event.insert("conferenceData".into(), data);
    }
}

/// `aaa-bbbb-ccc`, different for every serial: the factor has no divisor in common with 26^10.
fn meeting_code(serial: u64) -> String {
    const CODES: u128 = 26_u128.pow(10);
    let mut rest = u128::from(serial) * 95_367_431_640_627 % CODES;
    let mut code = String::with_capacity(12);
    for place in 0..10 {
        if place == 3 || place == 7 {
            code.push('-');
        }
        code.push(char::from(b'a' + (rest % 26) as u8));
        rest /= 26;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::meeting_code;
    use std::collections::HashSet;

    #[test]
    fn meeting_codes_have_googles_form_and_never_repeat() {
        let codes: HashSet<String> = (1..20_000).map(meeting_code).collect();
        assert_eq!(codes.len(), 19_999);
        assert!(
            codes
                .iter()
                .all(|code| code.len() == 12 && code.as_bytes()[3] == b'-')
        );
    }
}
