//! What servers are made to do.

use crate::{
    idle,
    peer::Peer::{self, Bowshock, H2o, Haproxy, Lighttpd, Nginx, Varnish},
    reload,
    server::file_name,
};

/// A kind of work whose CPU is measured.
pub struct Load {
    /// What `--only` calls it.
    pub name: &'static str,
    pub title: &'static str,
    pub peers: &'static [Peer],
    /// How many threads or processes each server has.
    pub threads: usize,
    pub work: Work,
    pub size: usize,
    /// What requests carry beside `Host`.
    pub fields: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// As many requests as possible for some seconds; microseconds for each.
    Requests(Source),
    /// One download after the other on one connection; seconds for each GiB.
    Downloads(Source),
    /// The same in the other direction.
    Uploads,
}

/// Where the bytes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Application,
    File,
    /// A file that the application names.
    Named,
    /// The application, over uwsgi.
    Uwsgi,
}

use Source::{Application, File, Named, Uwsgi};
use Work::{Downloads, Requests, Uploads};

const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
pub const GIB: usize = 1 << 30;

/// Sizes of the files that are sent.
pub const FILES: [usize; 4] = [KIB, 16 * KIB, MIB, GIB];

// Not everybody does everything: haproxy and varnish send no files; lighttpd as a proxy, and varnish as a proxy of
// answers, are always behind the others.
pub const PROXIES: &[Peer] = &[Bowshock, Nginx, Haproxy, H2o];
const UWSGI: &[Peer] = &[Bowshock, Nginx];
const UPLOADERS: &[Peer] = &[Bowshock, Nginx, Haproxy, H2o, Varnish];
const FILE_SERVERS: &[Peer] = &[Bowshock, Nginx, H2o, Lighttpd];

/// What a browser says that uses Galaxy.
const BROWSER: &[&str] = &[
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://galaxy.example.org/histories/list",
    "Cookie: galaxysession=c6ca0ddb55be603a7c1a1d5a1f2d8e9b3c4d5e6f708192a3b4c5d6e7f8091a2b",
    "X-Requested-With: XMLHttpRequest",
    "Sec-Fetch-Dest: empty",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0",
];

/// All kinds.
pub const LOADS: [Load; 13] = [
    Load::new("proxied-100b", "proxied, 100 B", PROXIES, Requests(Application), 100),
    Load {
        fields: BROWSER,
        ..Load::new("browser-100b", "proxied, 100 B, as a browser asks", PROXIES, Requests(Application), 100)
    },
    Load {
        threads: 2,
        ..Load::new("two-threads", "proxied, 100 B, two threads", PROXIES, Requests(Application), 100)
    },
    Load::new("proxied-100k", "proxied, 100 KiB", PROXIES, Requests(Application), 100 * KIB),
    Load::new("uwsgi-100b", "uwsgi, 100 B", UWSGI, Requests(Uwsgi), 100),
    Load::new("proxied-1g", "proxied, 1 GiB", PROXIES, Downloads(Application), GIB),
    Load::new("upload", "upload, 64 MiB", UPLOADERS, Uploads, 64 * MIB),
    Load::new("static-1k", "static, 1 KiB", FILE_SERVERS, Requests(File), KIB),
    Load {
        fields: BROWSER,
        ..Load::new("browser-1k", "static, 1 KiB, as a browser asks", FILE_SERVERS, Requests(File), KIB)
    },
    Load::new("static-16k", "static, 16 KiB", FILE_SERVERS, Requests(File), 16 * KIB),
    Load::new("static-1g", "static, 1 GiB", FILE_SERVERS, Downloads(File), GIB),
    Load::new("accelerated-1m", "accelerated, 1 MiB", FILE_SERVERS, Requests(Named), MIB),
    Load::new("accelerated-1g", "accelerated, 1 GiB", FILE_SERVERS, Downloads(Named), GIB),
];

/// What `--only` can name.
pub fn names() -> Vec<&'static str> {
    LOADS.iter().map(|load| load.name).chain([idle::NAME, reload::NAME]).collect()
}

impl Load {
    const fn new(
        name: &'static str,
        title: &'static str,
        peers: &'static [Peer],
        work: Work,
        size: usize,
    ) -> Self {
        Self { name, title, peers, threads: 1, work, size, fields: &[] }
    }

    pub fn unit(&self) -> &'static str {
        match self.work {
            Requests(_) => "µs/request",
            Downloads(_) | Uploads => "s/GiB",
        }
    }

    /// What is asked for.
    pub fn path(&self, peer: Peer) -> String {
        match self.work {
            Uploads => "/upload".into(),
            Requests(Application) | Downloads(Application) => format!("/bytes/{}", self.size),
            Requests(Uwsgi) | Downloads(Uwsgi) => format!("/uwsgi/bytes/{}", self.size),
            Requests(File) | Downloads(File) => format!("/static/{}", file_name(self.size)),
            Requests(Named) | Downloads(Named) => format!("/{}/{}", peer.accelerator(), self.size),
        }
    }
}
