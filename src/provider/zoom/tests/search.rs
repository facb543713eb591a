//! Looking for a meeting whose answer was lost.

use super::*;

#[test]
fn after_a_lost_answer_nothing_is_made_before_the_list_had_time() {
    let talk = zoom(in_doubt(30), vec![none()]);
    let failure = talk.failed();
    assert_eq!((failure.class, failure.may_exist), (Class::InDoubt, true));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(90)));
    assert_eq!(talk.lines(), [LIST]);
    assert_eq!(zoom(in_doubt(119), vec![none()]).lines(), [LIST]);
    // A clock that was set back proves nothing either.
    assert_eq!(
        zoom(in_doubt(-50), vec![none()]).failed().retry_after,
        Some(SETTLE)
    );

    // With the proof the attempt ends: the next one creates, on record as a new request.
    let talk = zoom(in_doubt(120), vec![none(), answer(201, meeting(ID))]);
    let failure = talk.failed();
    assert_eq!((failure.class, failure.may_exist), (Class::Retry, false));
    assert_eq!(failure.reason, Reason::AnswerLost);
    assert_eq!(talk.lines(), [LIST]);
}

#[test]
fn the_lost_meeting_is_found_by_its_marker_and_read_in_full() {
    let list = json!([
        entry(
            1,
            "2026-03-01T09:00:00Z",
            "meetlink:00000000-0000-0000-0000-000000000000"
        ),
        json!({ "id": 2, "topic": "no agenda" }),
        entry(
            ID,
            "2026-03-01T09:00:00Z",
            &format!("{}\nMade for", wish().marker())
        ),
    ]);
    let talk = zoom(in_doubt(1), vec![page(list, ""), answer(200, meeting(ID))]);
    assert_eq!(talk.done().join_url.as_str(), LINK);
    assert_eq!(talk.lines(), [LIST.to_owned(), get_line(ID)]);
}

#[test]
fn every_page_is_read() {
    let script = vec![
        page(json!([]), "a/b+c="),
        page(json!([ours(ID, "")]), ""),
        answer(200, meeting(ID)),
    ];
    let talk = zoom(in_doubt(1), script);
    talk.done();
    assert_eq!(
        talk.lines()[1],
        format!("{LIST}&next_page_token=a%2Fb%2Bc%3D")
    );
    // A refused page token ends this search, not the job.
    let talk = zoom(in_doubt(1), vec![page(json!([]), "x"), refused(400, 300)]);
    assert_eq!(
        (talk.failed().class, talk.failed().may_exist),
        (Class::Retry, true)
    );
}

#[test]
fn a_list_without_end_leaves_the_doubt() {
    let talk = zoom(
        in_doubt(500),
        (0..99).map(|_| page(json!([]), "again")).collect(),
    );
    assert_eq!(talk.sent.len(), 40);
    assert_eq!(
        (talk.failed().class, talk.failed().may_exist),
        (Class::InDoubt, true)
    );
    // What was found by then is enough.
    let mut script: Vec<Event> = (0..40)
        .map(|_| page(json!([ours(ID, "")]), "again"))
        .collect();
    script.push(answer(200, meeting(ID)));
    zoom(in_doubt(500), script).done();
}

#[test]
fn a_list_that_cannot_be_read_proves_nothing() {
    for list in [
        json!({}),
        json!({ "meetings": {} }),
        json!({ "meetings": [with(ours(1, ""), "id", json!("x"))] }),
        json!({ "meetings": [], "next_page_token": 7 }),
    ] {
        let talk = zoom(in_doubt(500), vec![answer(200, list)]);
        assert_eq!(
            (talk.failed().reason, talk.failed().may_exist),
            (Reason::AnswerUnreadable, true)
        );
    }
    for event in [
        answer(500, json!({})),
        refused(401, 124),
        refused(400, 4_711),
        broken(Reached::No, Fault::Dns),
    ] {
        assert!(zoom(in_doubt(500), vec![event]).failed().may_exist);
    }
}

#[test]
fn surplus_meetings_are_removed_and_the_first_made_is_kept() {
    let (t1, t2) = ("2026-03-01T08:00:00Z", "2026-03-01T09:00:00Z");
    let list = || {
        page(
            json!([ours(11, t2), ours(12, t1), ours(11, t2), ours(10, t2)]),
            "",
        )
    };
    let gone = || Event::Answer(text(204, ""));
    let talk = zoom(
        in_doubt(1),
        vec![
            list(),
            answer(200, meeting(12)),
            gone(),
            refused(404, 3_001),
        ],
    );
    assert_eq!(talk.done().external_id, "12");
    assert_eq!(
        talk.lines(),
        [
            LIST.to_owned(),
            get_line(12),
            delete_line(10),
            delete_line(11)
        ]
    );
    // A removal that fails is tried again later.
    for event in [
        answer(500, json!({})),
        refused(400, 3_000),
        broken(Reached::Maybe, Fault::Reset),
    ] {
        let talk = zoom(in_doubt(1), vec![list(), answer(200, meeting(12)), event]);
        assert_eq!(
            (talk.failed().class, talk.failed().may_exist),
            (Class::Retry, true)
        );
    }
}

#[test]
fn a_listed_meeting_that_is_gone_gives_way_to_the_next() {
    let list = || {
        page(
            json!([
                ours(11, "2026-03-01T08:00:00Z"),
                ours(12, "2026-03-01T09:00:00Z")
            ]),
            "",
        )
    };
    let talk = zoom(
        in_doubt(1),
        vec![list(), refused(404, 3_001), answer(200, meeting(12))],
    );
    assert_eq!(talk.done().external_id, "12");
    let talk = zoom(
        in_doubt(1),
        vec![list(), refused(404, 3_001), refused(404, 3_001)],
    );
    assert_eq!(talk.failed().class, Class::InDoubt);
}
