//! Processes and threads as the kernel shows them, and signals to them.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// State letter of a thread, such as `S` or `T`; none when it is gone.
fn state(path: &str) -> Option<char> {
    let stat = std::fs::read_to_string(path).ok()?;
    // After the name, which may hold anything but ends with the last bracket.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether a process lives; one that is only waiting to be reaped does not.
pub fn alive(pid: i32) -> bool {
    state(&format!("/proc/{pid}/stat")).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The thread that a process begins with has its pid.
/// Threads of a process that have a name.
pub(super) fn threads_named(pid: i32, name: &str) -> Vec<i32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let named = tasks.flatten().filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    named
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// Context switches of all threads of a process so far: it has done nothing between two looks that
/// give the same number.
pub(super) fn switches(pid: i32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let statuses = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    statuses
        .map(|status| {
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            lines
                .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
                .sum::<u64>()
        })
        .sum()
}

/// Processes of a server: all of them live in its data folder.
pub(super) fn members_of(data: &Path) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data) && alive(*pid)
    })
    .collect()
}

/// Sends a signal; that nobody is there any more is no error.
pub fn send(pid: i32, signal: Signal) -> super::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Err(format!("{pid} is no pid"));
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(format!("signalling {}: {error}", pid.as_raw_nonzero())),
    }
}
