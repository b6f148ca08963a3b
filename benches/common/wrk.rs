//! Load by wrk.

use std::{error::Error, net::SocketAddr, process::Command};

/// Asks for `path` with these fields as often as possible on so many connections, and tells how often that was.
pub fn wrk(
    address: SocketAddr,
    path: &str,
    fields: &[&str],
    connections: u32,
    seconds: u32,
) -> Result<usize, Box<dyn Error>> {
    let output = Command::new("wrk")
        .arg("--threads=1")
        .args([format!("--connections={connections}"), format!("--duration={seconds}s")])
        .args(fields.iter().map(|field| format!("--header={field}")))
        .arg(format!("http://{address}{path}"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(text.into());
    }
    let count = text.lines().find_map(|line| line.split_once(" requests in")?.0.trim().parse().ok());
    count.filter(|count| *count > 0).ok_or_else(|| format!("wrk counts no requests: {text}").into())
}
