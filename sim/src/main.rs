//! The simulator's command line.

#![allow(clippy::print_stdout)] // this is the program

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match cli::run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(text) => {
            eprintln!("sim: {text}\n\n{}", cli::USAGE);
            ExitCode::from(2)
        }
    }
}
