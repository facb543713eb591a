//! meetlink: meeting links for booked sessions, made inside PostgreSQL.
//!
//! Wiring only; ARCHITECTURE.md is the map of the rooms.
#![deny(unsafe_code)]
#![warn(missing_docs)]

use pgrx::prelude::*;

mod api;
mod config;
mod domain;
mod keycommand;
mod keyfile;
mod mail;
mod net;
mod pg;
mod provider;
mod store;
mod worker;

pg_module_magic!(name, version);

#[cfg(any(test, feature = "pg_test"))]
mod tests;

// One file a layer, in this order.
extension_sql_file!("../sql/install/01_schema.sql", name = "schema", bootstrap);
extension_sql_file!(
    "../sql/install/02_tables.sql",
    name = "tables",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/install/03_functions.sql",
    name = "functions",
    requires = ["tables"]
);
extension_sql_file!(
    "../sql/install/04_views.sql",
    name = "views",
    requires = ["functions"]
);
extension_sql_file!(
    "../sql/install/05_finish.sql",
    name = "finish",
    requires = ["views"],
    finalize
);

/// Called once when the library is loaded: by the postmaster when preloaded, else by a backend.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    config::define();
    if pg::process::preloading() {
        pg::shared::install();
        pg::hooks::install();
        pg::process::register_launcher();
    }
}

/// What `cargo pgrx test` looks for.
#[cfg(test)]
pub mod pg_test {
    /// Nothing to prepare.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test server.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'meetlink'"]
    }
}
