//! A search path under which an application's triggers run as their table's owner.

/// The path with PostgreSQL's own schema before all others, and the temporary one after them.
///
/// Unnamed, the temporary schema comes first: whoever calls could put a type or a table of his own in
/// the place of one of the application's (CVE-2018-1058 and its kin). And with another schema before
/// pg_catalog, whoever may create there has his operators run.
pub fn guarded(path: &str) -> String {
    let mut parts = vec!["pg_catalog"];
    parts.extend(names(path).filter(|name| {
        let plain = name.trim_matches('"').to_ascii_lowercase();
        plain != "pg_catalog" && !plain.starts_with("pg_temp")
    }));
    parts.push("pg_temp");
    parts.join(", ")
}

/// The names of a list, as they are written.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = path.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgresql_comes_first_and_what_is_temporary_last() {
        for (path, wanted) in [
            (
                r#""$user", public"#,
                r#"pg_catalog, "$user", public, pg_temp"#,
            ),
            ("", "pg_catalog, pg_temp"),
            (
                "evil, pg_catalog, public",
                "pg_catalog, evil, public, pg_temp",
            ),
            (
                r#"pg_temp, "PG_TEMP", pg_temp_7, app"#,
                "pg_catalog, app, pg_temp",
            ),
            (
                r#""a, b", "c""d" ,e"#,
                r#"pg_catalog, "a, b", "c""d", e, pg_temp"#,
            ),
        ] {
            assert_eq!(guarded(path), wanted, "{path}");
        }
    }
}
