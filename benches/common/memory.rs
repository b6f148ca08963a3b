//! The memory that a program has.

use std::{fs, io};

use crate::family::family;

/// Bytes resident of the process `pid` and its descendants; what several of them share is divided among them.
pub fn resident(pid: u32) -> io::Result<u64> {
    let mut bytes = 0;
    for process in family(pid) {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"));
        bytes +=
            kib.and_then(|kib| kib.trim().parse::<u64>().ok()).ok_or_else(|| io::Error::other(text))? * 1024;
    }
    Ok(bytes)
}
