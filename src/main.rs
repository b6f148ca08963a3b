//! The program `bowshock`.

use std::process::ExitCode;

/// Answers are made of many small allocations on several threads; glibc's allocator takes up to twice the time over
/// them and keeps what it freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bowshock::cli::main()
}
