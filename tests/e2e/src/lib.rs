//! Real PostgreSQL clusters for tests, the demo and the benchmark.
//!
//! A worker sees committed rows only, and dies and comes back with its server: what it does shows
//! on a cluster of its own, not inside a test's transaction. [`Cluster::start`] makes one in a
//! second or less, in a temporary folder, reachable through a Unix socket only, so any number of
//! them run side by side. A cluster ends with its value, and also when the process that started it
//! is killed: nothing is left running.
//!
//! ```no_run
//! use meetlink_e2e::{Cluster, ClusterOptions, StopMode, wait};
//! use std::time::Duration;
//!
//! let mut cluster = Cluster::start(ClusterOptions::new().set("meetlink.concurrency", "4"));
//! cluster.create_database("app");
//! cluster.psql("app", "CREATE EXTENSION meetlink");
//! let mut client = cluster.connect("app", "postgres");
//! let pid: i32 = wait::until(Duration::from_secs(5), "a worker for app", || {
//!     let row = client.query_opt("SELECT pid FROM meetlink.workers", &[]).ok()?;
//!     row.map(|row| row.get(0))
//! });
//! cluster.stop(StopMode::Fast);
//! # let _ = pid;
//! ```
//!
//! Methods panic with a plain message when the harness cannot do its own work, as a test wants it.
//! Where failing is the subject of a test there is a `try_` variant beside them.

mod account;
pub mod app;
mod cluster;
mod copies;
mod failure;
mod installation;
mod logs;
mod options;
mod port;
mod server;
mod sessions;
mod settings;
mod skip;
mod template;
pub mod torture;
pub mod wait;
mod watchdog;

pub use cluster::{Cluster, LogMark};
pub use failure::Failure;
pub use options::{ClusterOptions, StopMode};
pub use port::free_address;
pub use skip::skip;
