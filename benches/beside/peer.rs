//! The servers, and how each is told to do the same. Their configurations are in `peers/`.

use std::{fs, io, path::Path, process::Command};

use rustix::process::Signal;

use crate::{
    machine::{BOWSHOCK, version},
    server::Place,
};

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Bowshock,
    Nginx,
    Haproxy,
    H2o,
    Lighttpd,
    Varnish,
}

impl Peer {
    pub const ALL: [Self; 6] =
        [Self::Bowshock, Self::Nginx, Self::Haproxy, Self::H2o, Self::Lighttpd, Self::Varnish];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bowshock => "bowshock",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::H2o => "h2o",
            Self::Lighttpd => "lighttpd",
            Self::Varnish => "varnish",
        }
    }

    pub fn version(self) -> String {
        match self {
            Self::Bowshock => version(BOWSHOCK, "--version"),
            Self::Varnish => version("varnishd", "-V"),
            _ => version(self.name(), "-v"),
        }
    }

    /// The field in which an application names the file to be sent, as a path's segment.
    pub fn accelerator(self) -> &'static str {
        match self {
            Self::H2o => "x-reproxy-url",
            Self::Lighttpd => "x-sendfile",
            _ => "x-accel-redirect",
        }
    }

    /// What its first process is sent to read its configuration again.
    pub fn reload(self) -> Signal {
        match self {
            Self::Haproxy => Signal::USR2,
            _ => Signal::HUP,
        }
    }

    /// Writes its configuration into `folder` and tells how to run it in the foreground.
    pub fn command(self, folder: &Path, place: &Place, port: u16, threads: usize) -> io::Result<Command> {
        let text = self
            .configuration()
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@FILES@", &place.files.display().to_string())
            .replace("@UPSTREAM@", &place.upstream.display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@THREADS@", &threads.to_string());
        let file = folder.join("configuration");
        fs::write(&file, text)?;
        let (program, words): (&str, &[&str]) = match self {
            Self::Bowshock => (BOWSHOCK, &["run", "-c"]),
            Self::Nginx => ("nginx", &["-c"]),
            Self::Haproxy => ("haproxy", &["-W", "-f"]),
            Self::H2o => ("h2o", &["-c"]),
            Self::Lighttpd => ("lighttpd", &["-D", "-f"]),
            Self::Varnish => ("varnishd", &["-F", "-f"]),
        };
        let mut command = Command::new(program);
        command.args(words).arg(file);
        if self == Self::Varnish {
            command.arg("-n").arg(folder).arg("-a").arg(format!("127.0.0.1:{port}")).args(VARNISH);
        }
        Ok(command)
    }

    fn configuration(self) -> &'static str {
        match self {
            Self::Bowshock => include_str!("peers/bowshock.toml"),
            Self::Nginx => include_str!("peers/nginx.conf"),
            Self::Haproxy => include_str!("peers/haproxy.cfg"),
            Self::H2o => include_str!("peers/h2o.yaml"),
            Self::Lighttpd => include_str!("peers/lighttpd.conf"),
            Self::Varnish => include_str!("peers/varnish.vcl"),
        }
    }
}

/// What varnish is told with words. It has a thread for each request in work.
const VARNISH: [&str; 10] = [
    "-j",
    "none",
    "-s",
    "malloc,64m",
    "-p",
    "thread_pools=1",
    "-p",
    "thread_pool_min=50",
    "-p",
    "timeout_idle=300",
];
