//! What is measured: proxies with their configurations, each in front of workers of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    arrivals::WORKERS, backend::Backend, client, machine::BOWSHOCK, process::Process, worker::SLOTS,
};

/// A proxy, and the way in which it is told to balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NginxRoundRobin,
    NginxLeastConn,
    HaproxyLeastConn,
    HaproxyMaxConn,
    BowshockLeastConn,
    BowshockMaxRequests,
}

/// How many threads or processes each proxy has.
const THREADS: usize = 2;

/// How long a proxy may take to start.
const SOON: Duration = Duration::from_secs(15);

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::NginxRoundRobin,
        Self::NginxLeastConn,
        Self::HaproxyLeastConn,
        Self::HaproxyMaxConn,
        Self::BowshockLeastConn,
        Self::BowshockMaxRequests,
    ];

    pub fn name(self) -> String {
        match self {
            Self::NginxRoundRobin => "nginx round robin".into(),
            Self::NginxLeastConn => "nginx least_conn".into(),
            Self::HaproxyLeastConn => "haproxy leastconn".into(),
            Self::HaproxyMaxConn => format!("haproxy leastconn, maxconn {SLOTS}"),
            Self::BowshockLeastConn => "bowshock".into(),
            Self::BowshockMaxRequests => format!("bowshock, max_requests = {SLOTS}"),
        }
    }

    pub fn is_peer(self) -> bool {
        !matches!(self, Self::BowshockLeastConn | Self::BowshockMaxRequests)
    }

    /// Writes the proxy's configuration into `folder` and tells how to run it in the foreground.
    fn command(self, folder: &Path, front: &Path, workers: &[PathBuf]) -> io::Result<Command> {
        let file = folder.join("configuration");
        let command = |program: &str, before_file: &[&str]| {
            let mut command = Command::new(program);
            command.args(before_file).arg(&file);
            command
        };
        let (text, command) = match self {
            Self::NginxRoundRobin => (nginx("", folder, front, workers), command("nginx", &["-c"])),
            Self::NginxLeastConn => (nginx("least_conn;", folder, front, workers), command("nginx", &["-c"])),
            Self::HaproxyLeastConn => (haproxy("", front, workers), command("haproxy", &["-db", "-f"])),
            Self::HaproxyMaxConn => {
                (haproxy(&format!("maxconn {SLOTS}"), front, workers), command("haproxy", &["-db", "-f"]))
            }
            Self::BowshockLeastConn => {
                (bowshock("", folder, front, workers), command(BOWSHOCK, &["run", "-c"]))
            }
            Self::BowshockMaxRequests => (
                bowshock(&format!("max_requests = {SLOTS}"), folder, front, workers),
                command(BOWSHOCK, &["run", "-c"]),
            ),
        };
        fs::write(&file, text)?;
        Ok(command)
    }
}

/// A running proxy with its workers. All end with it.
pub struct System {
    /// The socket on which the proxy listens.
    pub front: PathBuf,
    _process: Process,
    _workers: Vec<Backend>,
}

impl System {
    /// Starts it in `folder`, which must exist, and waits until a request is answered.
    pub async fn start(kind: Kind, folder: &Path) -> io::Result<Self> {
        let front = folder.join("front");
        let sockets: Vec<PathBuf> =
            (0..WORKERS).map(|number| folder.join(format!("worker{number}"))).collect();
        let workers = sockets.iter().map(|socket| Backend::start(socket)).collect::<io::Result<_>>()?;
        let mut process = Process::start(&kind.command(folder, &front, &sockets)?, folder)?;
        let deadline = Instant::now() + SOON;
        while let Err(error) = client::get(&front, 0.001).await {
            if process.has_ended()? || Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "no answer from {}: {error}\n{}",
                    kind.name(),
                    process.log()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { front, _process: process, _workers: workers })
    }
}

/// One line for each worker, with its number and its socket.
fn each(workers: &[PathBuf], line: impl Fn(usize, std::path::Display<'_>) -> String) -> String {
    workers.iter().enumerate().map(|(number, socket)| line(number, socket.display()) + "\n").collect()
}

/// `method` is nothing for round robin. The zone makes the counts those of all processes.
fn nginx(method: &str, folder: &Path, front: &Path, workers: &[PathBuf]) -> String {
    let servers = each(workers, |_, socket| format!("server unix:{socket} max_fails=0;"));
    let (folder, front) = (folder.display(), front.display());
    format!(
        "daemon off; worker_processes {THREADS}; user root; pid {folder}/pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
access_log off;
client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
upstream app {{
zone app 256k;
{method}
{servers}keepalive 64;
}}
server {{
listen unix:{front};
location / {{
proxy_pass http://app;
proxy_http_version 1.1;
proxy_set_header Connection \"\";
proxy_read_timeout 10m;
proxy_next_upstream off;
}}
}}
}}
"
    )
}

/// `limit` is added to what is said of each worker.
fn haproxy(limit: &str, front: &Path, workers: &[PathBuf]) -> String {
    let servers = each(workers, |number, socket| format!("server worker{number} unix@{socket} {limit}"));
    let front = front.display();
    format!(
        "global
nbthread {THREADS}
maxconn 8192
defaults
mode http
timeout connect 10s
timeout client 10m
timeout server 10m
timeout queue 10m
retries 0
listen app
bind unix@{front}
balance leastconn
http-reuse always
{servers}"
    )
}

/// `limit` is added to what is said of the upstream.
fn bowshock(limit: &str, folder: &Path, front: &Path, workers: &[PathBuf]) -> String {
    let servers = each(workers, |_, socket| format!("  \"unix:{socket}\","));
    let (folder, front) = (folder.display(), front.display());
    format!(
        "[server]
threads = {THREADS}
[admin]
listen = \"unix:{folder}/admin\"
[[listen]]
address = \"unix:{front}\"
[[site]]
[site.routes]
\"/\" = {{ proxy = \"app\" }}
[upstream.app]
servers = [
{servers}]
read_timeout = \"10m\"
{limit}
"
    )
}
