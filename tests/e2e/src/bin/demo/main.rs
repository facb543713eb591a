//! See meetlink work: `make demo`. Every line of SQL that it shows is the one that it runs.

mod look;
mod say;
mod scenes;
mod stage;

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use stage::Stage;

const HELP: &str = "\
Usage: demo [--stay]                  (make demo DEMO_ARGS=--stay)

  --stay   leave the cluster and the simulator running at the end, until Enter or Ctrl-C";

/// Why the demo could not go on, for the person who runs it.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let mut stay = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--stay" => stay = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("demo: there is no option {other}\n\n{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    // The harness panics with a plain message when it cannot do its work; a newcomer needs no more.
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("for an unknown reason");
        eprintln!("\nThe demo stopped: {text}");
    }));
    match std::panic::catch_unwind(|| run(stay)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(why)) => {
            eprintln!("\nThe demo did not go as it should: {why}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(stay: bool) -> Outcome {
    say::title("meetlink: a confirmed booking gets its meeting link by itself");
    let mut stage = Stage::set()?;
    let outcome = scenes::all(&mut stage).and_then(|()| look::around(&stage));
    if let Err(why) = outcome {
        return Err(format!("{why}\n{}", stage.end_of_log()));
    }
    if stay {
        wait_for_somebody(&stage);
    }
    say::title("The end");
    let base = stage.app.cluster.base().to_owned();
    drop(stage);
    say::line(&format!(
        "The private PostgreSQL and the simulator are stopped, {} is removed.",
        base.display()
    ));
    if !stay {
        say::line("To stay and look around yourself:   make demo DEMO_ARGS=--stay");
    }
    Ok(())
}

fn wait_for_somebody(stage: &Stage) {
    say::title("It is all yours");
    say::line("The cluster and the simulator go on running. In another terminal:");
    say::command(&look::psql_command(stage));
    say::line(
        "Zoom and Google are played by the simulator, in this process; it also shows what it",
    );
    say::line("received:");
    say::command(&format!(
        "curl -s {}/_sim/journal",
        stage.app.simulator.url()
    ));
    say::line("To stop everything and remove its folder: Enter or Ctrl-C here.");
    if !std::io::stdin().is_terminal() {
        say::line("(Standard input is not a terminal: its end stops it, too.)");
    }
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}
