//! How the demo speaks: plain lines, at most 100 columns, colour on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

/// Room for a time at the start of a line.
const MARGIN: &str = "           ";
/// Room for what programs print, in lines of 100 columns.
pub const ROOM: usize = 100 - MARGIN.len() - 2;

fn paint(code: &str, text: &str) -> String {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain {
        text.to_owned()
    } else {
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A new part.
pub fn title(text: &str) {
    println!("\n{}", paint("1", text));
}

/// A line of prose.
pub fn line(text: &str) {
    println!("{MARGIN}{text}");
}

/// Something that happened, and how long it took.
pub fn took(time: Duration, text: &str) {
    let time = format!("{:>7.0} ms", time.as_secs_f64() * 1e3);
    println!("{} {text}", paint("32", &time));
}

/// Something to type, or that was run.
pub fn command(text: &str) {
    for line in text.lines() {
        println!("{MARGIN}  {}", paint("36", line));
    }
}

/// What a program printed.
pub fn output(text: &str) {
    for line in text.trim_end().lines() {
        println!("{MARGIN}  {}", line.trim_end());
    }
}
