//! What the programs say of themselves can be read in a terminal of 100 columns.

use std::path::Path;
use std::process::Command;

#[test]
fn every_help_fits_in_100_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut make = Command::new("make");
    make.args(["-s", "help"]).current_dir(root);
    let programs = [
        env!("CARGO_BIN_EXE_demo"),
        env!("CARGO_BIN_EXE_bench"),
        env!("CARGO_BIN_EXE_soak"),
        env!("CARGO_BIN_EXE_torture"),
    ];
    let programs = programs.map(|program| {
        let mut command = Command::new(program);
        command.arg("--help");
        command
    });
    for mut command in programs.into_iter().chain([make]) {
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{command:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(!text.trim().is_empty(), "{command:?} says nothing");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command:?}: {line}");
        }
    }
}
