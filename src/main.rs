//! The program `bowshock`.

use std::process::ExitCode;

/// Responses are made of many small allocations on several threads. glibc's allocator takes up to twice the time for
/// them and does not return freed memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bowshock::cli::main()
}
