//! Where the figures come from: they mean little without it.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::numbers::median;

pub fn describe() {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: f64 = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0.0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("machine   {cpu}, {cores} cores, {:.0} GB", memory / 1e6);
    println!(
        "          Linux {}, load {} before the start",
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    );
    println!("          server, simulator and benchmark share the cores");
}

/// Says what a flush to the disk takes where the cluster lies.
pub fn describe_disk(folder: &Path) {
    println!(
        "disk      one 8 kB fdatasync in {} takes {:.2} ms (median of 50)",
        folder.parent().unwrap_or(folder).display(),
        flush(folder, 50)
    );
}

/// Milliseconds of one flush just now, as a median: it swings with what else the machine does, and
/// a booking and its link wait for two or three of them.
pub fn flush(folder: &Path, count: usize) -> f64 {
    let path = folder.join("flush-probe");
    let Ok(mut file) = std::fs::File::create(&path) else {
        return f64::NAN;
    };
    let times: Vec<f64> = (0..count)
        .filter_map(|_| {
            let begun = Instant::now();
            file.write_all(&[0; 8192]).ok()?;
            file.sync_data().ok()?;
            Some(begun.elapsed().as_secs_f64() * 1e3)
        })
        .collect();
    let _ = std::fs::remove_file(&path);
    median(&times)
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
