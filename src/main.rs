//! The `muster` command.

use std::process::ExitCode;

/// An operator holds many small objects for long, and sets up thousands of agents at a time. The allocators of glibc and musl keep what is free
/// among what is used; this one gives it back (docs/performance.md). `.cargo/config.toml` has its settings.
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
