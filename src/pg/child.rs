//! A command that runs for this process, and ends with it.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pgrx::pg_sys;

/// Ends the processes of a group that this process has made.
pub fn end_group(leader: u32) {
    // SAFETY: a system call without memory. A group that is gone is an error without consequence.
    unsafe { libc::kill(-(leader as i32), libc::SIGKILL) };
}

/// The group of a command that runs for this process; 0: none.
static COMMAND: AtomicU32 = AtomicU32::new(0);

/// Makes a command lead a group of its own, and end when this process is killed.
pub fn tie(command: &mut Command) -> &mut Command {
    let end_with_us = || {
        // SAFETY: changes an attribute of the new process only (prctl(2)).
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call and takes no lock.
    unsafe { command.process_group(0).pre_exec(end_with_us) }
}

/// Has reading from a command's output give what is there, and `WouldBlock` where that is nothing.
pub fn never_wait(output: &ChildStdout) -> io::Result<()> {
    // SAFETY: a system call without memory, on a descriptor that is open while it is borrowed.
    let flags = unsafe { libc::fcntl(output.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as above.
    let set =
        || unsafe { libc::fcntl(output.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
    if flags < 0 || set() < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Says which group is to be ended if this process leaves while its command runs; 0: none.
pub fn remember_group(leader: u32) {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    COMMAND.store(leader, Ordering::Relaxed);
    // SAFETY: the callback is a plain function; a FATAL error leaves without unwinding this code.
    REGISTERED.get_or_init(|| unsafe {
        pg_sys::on_proc_exit(Some(end_command), pg_sys::Datum::from(0usize));
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn end_command(_code: i32, _argument: pg_sys::Datum) {
    let leader = COMMAND.swap(0, Ordering::Relaxed);
    if leader != 0 {
        end_group(leader);
    }
}
