//! What it runs on, and what runs.

use std::{fs, process::Command};

/// The program as it was built for this benchmark.
pub const BOWSHOCK: &str = env!("CARGO_BIN_EXE_bowshock");

/// Processors and kernel.
pub fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("processors of unknown make", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{count} × {model}, Linux {}", kernel.trim())
}

/// For example "nginx 1.22.1", asked from the program itself.
pub fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    // Some tell it on standard error.
    let text = output.map(|output| [output.stderr, output.stdout].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let word = text.split_whitespace().find(|word| word.contains('.')).unwrap_or_default();
    let number = word.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let number = number.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next();
    let name = program.rsplit('/').next().unwrap_or(program);
    format!("{name} {}", number.unwrap_or_default())
}
