//! What is measured: nginx and bowshock with the same files.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use crate::{cpu::Cpu, process::Process};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Bowshock,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Nginx, Self::Bowshock];

    /// The program, the words before its configuration, and that.
    fn configuration(
        self,
        folder: &Path,
        root: &Path,
        address: SocketAddr,
        application: SocketAddr,
    ) -> (&'static str, &'static [&'static str], String) {
        let (folder, root) = (folder.display(), root.display());
        match self {
            Self::Nginx => {
                let text = format!(
                    "daemon off; worker_processes 2; user root; pid {folder}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
include /etc/nginx/mime.types; default_type application/octet-stream; access_log off;
sendfile on; tcp_nopush on; keepalive_requests 1000000000;
client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
upstream app {{ server {application}; keepalive 16; keepalive_requests 1000000000; }}
server {{
listen {address};
location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
location /static/ {{ alias {root}/; }}
location /_x/ {{ internal; alias {root}/; }}
}}
}}
"
                );
                ("nginx", &["-c"], text)
            }
            Self::Bowshock => {
                let text = format!(
                    "[server]
threads = 2
[admin]
listen = \"unix:{folder}/admin\"
[log]
access = \"off\"
[[listen]]
address = \"{address}\"
[[site]]
[site.routes]
\"/\" = {{ proxy = \"app\" }}
\"/static\" = {{ files = \"{root}\" }}
\"/_x\" = {{ files = \"{root}\", internal = true }}
[upstream.app]
servers = [\"{application}\"]
"
                );
                (env!("CARGO_BIN_EXE_bowshock"), &["run", "-c"], text)
            }
        }
    }
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    process: Process,
}

impl Server {
    /// Starts it in a folder of its own in `folder`, and waits until it accepts.
    pub fn start(kind: Kind, folder: &Path, root: &Path, application: SocketAddr) -> io::Result<Self> {
        let folder = folder.join(format!("{kind:?}"));
        fs::create_dir(&folder)?;
        // Free again at once; nobody else takes a port in that moment.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (program, words, text) = kind.configuration(&folder, root, address, application);
        let file = folder.join("configuration");
        fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.args(words).arg(file);
        let mut process = Process::start(&command, &folder)?;
        process.until_accepts(address).map_err(|error| io::Error::other(format!("{kind:?}: {error}")))?;
        Ok(Self { address, process })
    }

    /// What it has taken so far.
    pub fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(self.process.pid())
    }
}
