use super::*;

fn of(base: &str) -> ColumnType {
    ColumnType {
        base: base.into(),
        is_enum: false,
        sql: base.into(),
        cast: base.into(),
        limit: None,
    }
}

fn reference() -> BTreeMap<Table, BTreeMap<String, ColumnType>> {
    let base = |kind| match kind {
        Kind::Uuid => "uuid",
        Kind::Text | Kind::Word(_) | Kind::LongText(_) => "text",
        Kind::Time => "timestamptz",
        Kind::Integer => "int4",
        Kind::Boolean => "bool",
    };
    let columns = |table: Table| {
        let roles = table.roles().iter();
        roles
            .map(|role| (role.name.to_owned(), of(base(role.kind))))
            .collect()
    };
    Table::ALL
        .into_iter()
        .map(|table| (table, columns(table)))
        .collect()
}

#[test]
fn the_reference_tables_fit_without_a_word() {
    let mapping = Mapping::check(&json!({}), &reference()).unwrap();
    assert_eq!(
        mapping.column(Table::Sessions, "join_url"),
        Some("join_url")
    );
    assert_eq!(Mapping::from_json(&mapping.to_json()), mapping);
}

#[test]
fn optional_columns_may_be_missing_and_one_length_is_enough() {
    let mut types = reference();
    let sessions = types.get_mut(&Table::Sessions).unwrap();
    sessions.remove("meeting_created_at");
    sessions.remove("scheduled_end_at");
    types
        .get_mut(&Table::Connections)
        .unwrap()
        .remove("is_active");
    let mapping = Mapping::check(&Value::Null, &types).unwrap();
    assert_eq!(mapping.column(Table::Connections, "is_active"), None);
    types
        .get_mut(&Table::Sessions)
        .unwrap()
        .remove("duration_minutes");
    let misfits = Mapping::check(&Value::Null, &types).unwrap_err();
    assert!(misfits[0].0.contains("duration_minutes"));
}

#[test]
fn every_misfit_is_named_at_once() {
    let mut types = reference();
    let sessions = types.get_mut(&Table::Sessions).unwrap();
    sessions.remove("tutor_id");
    sessions.insert("id".into(), of("int8"));
    sessions.insert("scheduled_start_at".into(), of("timestamp"));
    let wished = json!({
        "sessions": {"join_url": "link", "nonsense": "x", "status": 3, "id": "id"},
        "people": {},
        "profiles": [],
    });
    let misfits = Mapping::check(&wished, &types).unwrap_err();
    let text: Vec<&str> = misfits.iter().map(|m| m.0.as_str()).collect();
    for part in [
        "tutor_id",
        "int8",
        "timestamp with",
        "\"link\"",
        "nonsense",
        "status",
        "people",
        "columns.profiles",
    ] {
        assert!(
            text.iter().any(|line| line.contains(part)),
            "{part}: {text:?}"
        );
    }
    assert_eq!(misfits.len(), 8);
}

#[test]
fn a_renamed_column_is_taken_and_enums_count_as_text() {
    let mut types = reference();
    let sessions = types.get_mut(&Table::Sessions).unwrap();
    let link = sessions.remove("join_url").unwrap();
    sessions.insert("meeting_link".into(), link);
    let status = ColumnType {
        base: "session_status".into(),
        is_enum: true,
        sql: "public.session_status".into(),
        cast: "public.session_status".into(),
        limit: None,
    };
    sessions.insert("status".into(), status);
    let wished = json!({"sessions": {"join_url": "meeting_link"}});
    let mapping = Mapping::check(&wished, &types).unwrap();
    assert_eq!(
        mapping.column(Table::Sessions, "join_url"),
        Some("meeting_link")
    );
    assert_eq!(
        mapping.cast(Table::Sessions, "status"),
        Some("public.session_status")
    );
}
