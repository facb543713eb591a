//! A person says that the meeting exists.

use super::*;

fn adopt(seconds: i64) -> Known {
    Known {
        adopt: true,
        ..in_doubt(seconds)
    }
}

fn like(id: i64, topic: &str, start: &str) -> Value {
    json!({ "id": id, "topic": topic, "start_time": start, "created_at": "", "agenda": "" })
}

const TOPIC: &str = "Tutoring session: Ada and Bo";
const START: &str = "2026-03-03T10:00:00Z";

#[test]
fn the_one_meeting_with_the_sessions_time_and_title_is_taken() {
    let list = json!([
        like(1, TOPIC, "2026-03-04T10:00:00Z"),
        like(2, "Something else", START),
        like(ID, TOPIC, START),
    ]);
    let talk = zoom(adopt(1), vec![page(list, ""), answer(200, meeting(ID))]);
    assert_eq!(talk.done().external_id, ID.to_string());
}

#[test]
fn the_marker_is_better_than_any_likeness() {
    let list = json!([like(7, TOPIC, START), ours(ID, "")]);
    let talk = zoom(adopt(1), vec![page(list, ""), answer(200, meeting(ID))]);
    assert_eq!(talk.done().external_id, ID.to_string());
}

#[test]
fn nothing_is_made_where_none_or_several_or_only_anothers_fit() {
    let mut anothers = like(8, TOPIC, START);
    anothers["agenda"] = "meetlink:00000000-0000-0000-0000-000000000000".into();
    for list in [
        json!([]),
        json!([like(1, TOPIC, START), like(2, TOPIC, START)]),
        json!([anothers]),
    ] {
        // However long ago the request was.
        let talk = zoom(adopt(999_999), vec![page(list, "")]);
        let failure = talk.failed();
        assert_eq!((failure.class, failure.may_exist), (Class::InDoubt, true));
        assert_eq!(talk.lines(), [LIST]);
    }
}

#[test]
fn without_that_word_a_likeness_is_nothing() {
    let list = json!([like(ID, TOPIC, START)]);
    let talk = zoom(in_doubt(1), vec![page(list, "")]);
    assert_eq!(talk.failed().class, Class::InDoubt);
}
