//! Many made-up mappings against made-up tables: no panic, and nothing is accepted that the catalog
//! did not give.

use super::*;
use crate::domain::random::Random;

const TYPES: [&str; 14] = [
    "uuid",
    "text",
    "varchar",
    "bpchar",
    "citext",
    "timestamptz",
    "timestamp",
    "int2",
    "int4",
    "int8",
    "bool",
    "jsonb",
    "float8",
    "",
];

fn name(random: &mut Random) -> String {
    let roles: Vec<&str> = Table::ALL
        .iter()
        .flat_map(|t| t.roles())
        .map(|r| r.name)
        .collect();
    match random.below(8) {
        0 => random
            .of(&["sessions", "connections", "profiles", "columns", ""])
            .to_owned(),
        1 => (0..random.below(90))
            .map(|_| random.bits() as u8 as char)
            .collect(),
        2 => "x\"; DROP TABLE sessions; --".to_owned(),
        _ => random.of(&roles).to_owned(),
    }
}

fn json(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.bits()),
        2 => json!(random.below(2) == 0),
        3 | 4 => json!(name(random)),
        5 => (0..random.below(4))
            .map(|_| json(random, depth - 1))
            .collect(),
        _ => {
            let fields = (0..random.below(6)).map(|_| (name(random), json(random, depth - 1)));
            Value::Object(fields.collect())
        }
    }
}

/// Tables as some catalog has them: now and then a column more, less, or of another type.
fn catalog(random: &mut Random) -> BTreeMap<Table, BTreeMap<String, ColumnType>> {
    let mut tables = BTreeMap::new();
    let care = random.below(40) + 1;
    for table in Table::ALL {
        if random.below(care * 3) == 1 {
            continue;
        }
        let mut columns = BTreeMap::new();
        for role in table.roles() {
            let fitting = match role.kind {
                Kind::Uuid => "uuid",
                Kind::Text | Kind::Word(_) | Kind::LongText(_) => "text",
                Kind::Time => "timestamptz",
                Kind::Integer => "int4",
                Kind::Boolean => "bool",
            };
            let base = if random.below(care) == 1 {
                random.of(&TYPES)
            } else {
                fitting
            };
            let column = ColumnType {
                base: base.to_owned(),
                is_enum: random.below(30) == 0,
                sql: base.to_owned(),
                cast: base.to_owned(),
                limit: None,
            };
            let name = if random.below(care) == 1 {
                name(random)
            } else {
                role.name.to_owned()
            };
            columns.insert(name, column);
        }
        tables.insert(table, columns);
    }
    tables
}

/// A wish that mostly makes sense: roles to names of columns that are there.
fn sensible(random: &mut Random, types: &BTreeMap<Table, BTreeMap<String, ColumnType>>) -> Value {
    let mut wished = Map::new();
    for (table, columns) in types {
        let names: Vec<&String> = columns.keys().collect();
        let mut fields = Map::new();
        for role in table.roles() {
            match random.below(12) {
                0 if !names.is_empty() => fields.insert(role.name.into(), json!(random.of(&names))),
                1 => fields.insert(role.name.into(), json!(role.name)),
                2 if random.below(3) == 0 => fields.insert(role.name.into(), Value::Null),
                _ => None,
            };
        }
        wished.insert(table.key().to_owned(), Value::Object(fields));
    }
    Value::Object(wished)
}

#[test]
fn whatever_is_wished_only_columns_of_the_catalog_that_fit_are_accepted() {
    const ROUNDS: usize = 100_000;
    let mut random = Random(0xc01);
    let (mut accepted, mut misfits) = (0, 0);
    for _ in 0..ROUNDS {
        let types = catalog(&mut random);
        let wished = match random.below(3) {
            0 => json(&mut random, 3),
            1 => Value::Null,
            _ => sensible(&mut random, &types),
        };
        let mapping = match Mapping::check(&wished, &types) {
            Ok(mapping) => mapping,
            Err(found) => {
                assert!(!found.is_empty());
                for misfit in &found {
                    let plain = !misfit.0.is_empty() && misfit.0.chars().count() < 400;
                    assert!(
                        plain && !misfit.0.contains(|c: char| c.is_control()),
                        "{misfit:?}"
                    );
                }
                misfits += found.len();
                continue;
            }
        };
        accepted += 1;
        for table in Table::ALL {
            for role in table.roles() {
                let Some(column) = mapping.column(table, role.name) else {
                    // Left out: only what may be, or of a table that is not there at all.
                    assert!(
                        !role.required || !types.contains_key(&table),
                        "{}",
                        role.name
                    );
                    continue;
                };
                let there = types.get(&table).and_then(|columns| columns.get(column));
                let there = there.unwrap_or_else(|| panic!("{column} is not in the catalog"));
                assert!(role.kind.fits(there), "{column} as {}", role.name);
                assert_eq!(mapping.cast(table, role.name), Some(there.sql.as_str()));
                // The wish, or the name of the role.
                let asked = wished[table.key()][role.name].as_str().unwrap_or(role.name);
                assert_eq!(column, asked);
            }
        }
        assert_eq!(Mapping::from_json(&mapping.to_json()), mapping);
    }
    println!("{ROUNDS} cases: {accepted} mappings accepted, {misfits} misfits named");
    assert!(accepted > ROUNDS / 20 && misfits > ROUNDS);
}

#[test]
fn whatever_the_stored_mapping_holds_is_read_without_a_panic() {
    const ROUNDS: usize = 50_000;
    let mut random = Random(0x570);
    for _ in 0..ROUNDS {
        let stored = json(&mut random, 4);
        let mapping = Mapping::from_json(&stored);
        for (table, columns) in &mapping.columns {
            for (role, (name, sql)) in columns {
                let entry = &stored[table.key()][*role];
                assert_eq!(entry["column"].as_str(), Some(name.as_str()));
                assert_eq!(entry["type"].as_str(), Some(sql.as_str()));
            }
        }
    }
    println!("{ROUNDS} cases");
}
