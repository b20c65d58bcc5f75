//! The `muster` command.

use std::process::ExitCode;

/// glibc's allocator gave no free memory back to the kernel after a set-up of many agents. jemalloc gives it back (docs/performance.md).
/// `.cargo/config.toml` has its settings.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match muster::cli::main() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("muster: {error}");
            ExitCode::FAILURE
        }
    }
}
