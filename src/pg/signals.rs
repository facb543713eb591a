//! Threads that no signal reaches.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread with every signal blocked.
///
/// Postgres's handlers must run on the main thread only: on another one they would touch state
/// that belongs to it, and pgrx panics. The mask is inherited, so it is set around the start.
pub fn spawn_deaf(
    name: String,
    stack_bytes: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // SAFETY: both sets live on this stack; the calls only change this thread's mask.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let started = Builder::new()
            .name(name)
            .stack_size(stack_bytes)
            .spawn(body);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        started
    }
}
