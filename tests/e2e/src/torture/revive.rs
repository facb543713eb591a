//! A server whose postmaster was killed is started again.

use std::time::{Duration, Instant};

use super::{Result, proc};
use crate::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Starts a server that died as soon as what it left behind is gone: a new postmaster refuses to
/// start while an old process is attached to the old shared memory.
///
/// # Errors
/// When the old processes do not leave, or the server does not start for another reason.
pub fn revive(cluster: &mut Cluster) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let data = cluster.data_dir();
    while cluster.is_running() || !proc::members_of(&data).is_empty() {
        if Instant::now() > deadline {
            return Err(format!("processes of the old server after {PATIENCE:?}"));
        }
        std::thread::sleep(PAUSE);
    }
    loop {
        match cluster.try_start_again() {
            Ok(()) => return Ok(()),
            // The main thread of a process is gone before its last thread is, which shows nowhere.
            Err(failure)
                if failure.to_string().contains("pre-existing shared memory")
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            Err(failure) => return Err(failure.to_string()),
        }
    }
}
