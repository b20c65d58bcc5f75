//! The `muster` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match muster::cli::main() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("muster: {error}");
            ExitCode::FAILURE
        }
    }
}
