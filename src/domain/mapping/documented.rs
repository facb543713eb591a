//! docs/mapping.md names every key, with what the code wants of it.

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/mapping.md");

/// The cells of the tables' rows, without backticks.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    })
}

#[test]
fn every_key_stands_in_its_place_with_its_type() {
    let documented: Vec<String> = rows()
        .filter(|cells| cells.len() == 5)
        .map(|cells| cells[..4].join(" | "))
        .collect();
    let needed = |role: &Role| {
        if role.required {
            "required"
        } else {
            "optional"
        }
    };
    let known: Vec<String> = Table::ALL
        .into_iter()
        .flat_map(|table| table.roles().iter().map(move |role| (table, role)))
        .map(|(table, role)| [table.key(), role.name, needed(role), &role.kind.name()].join(" | "))
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn the_example_has_keys_that_mean_something() {
    let (_, rest) = DOCUMENT.split_once("columns     => '").expect("an example");
    let (example, _) = rest.split_once('\'').expect("its end");
    let wished = serde_json::from_str(example).expect("JSON");
    assert_eq!(
        Mapping::check(&wished, &BTreeMap::new()).map(drop),
        Ok(()),
        "{wished}"
    );
}

#[test]
fn every_provider_is_a_value() {
    let cells = rows().find(|cells| cells.len() == 2 && cells[0].starts_with("provider"));
    let cells = cells.expect("a row of providers");
    let named: Vec<&str> = cells[1].split(", ").collect();
    for name in &named {
        assert!(crate::provider::by_name(name).is_some(), "{name}");
    }
    assert_eq!(named.len(), 2);
}
