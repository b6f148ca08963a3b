//! The original, moved into a scratch directory: sockets on loopback, files below the directory, recorders in place of
//! upstream servers.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use socket2::{Domain, Socket, Type};

use super::super::{
    expr,
    include::WELL_KNOWN,
    syntax::{Directive, Place, quoted},
    upstreams::Target,
};

/// Password file entry of the replay's user, for both programs: `bowshock` with the password `replay`.
pub const HTPASSWD: &str = "bowshock:{SHA}NB2VPmnd1VwA772Aclgzx6mSvGo=\n";

/// Directives that the replay leaves out: process, logs, certificates, caches.
const LEFT_OUT: [&str; 17] = [
    "user",
    "pid",
    "daemon",
    "master_process",
    "worker_processes",
    "error_log",
    "access_log",
    "log_format",
    "lock_file",
    "resolver",
    "resolver_timeout",
    "load_module",
    "events",
    "stream",
    "mail",
    "env",
    "http2",
];

/// Recorders by the address that they stand for.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// Ports of recorders.
    pub ports: Ports,
    /// Recorders by name and original address, and protocol.
    pub recorders: BTreeMap<(String, &'static str), Recorder>,
}

/// A recorder: where it listens, and its name in recordings.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// `127.0.0.1:PORT`, or `unix:/PATH`.
    pub address: String,
    /// Protocol.
    pub protocol: &'static str,
    /// Name of the `upstream` block, or the original address.
    pub label: String,
}

/// Moves a configuration.
pub struct Stage<'s> {
    /// The scratch directory.
    pub folder: &'s Path,
    /// Ports by original address and port.
    pub ports: BTreeMap<(String, u16), u16>,
    /// Recorders, shared by both programs.
    pub upstreams: &'s mut Upstreams,
    /// Names of `upstream` blocks, with the protocol that they are used by.
    pub blocks: BTreeMap<String, &'static str>,
    /// Directory that relative paths of the original begin at.
    pub home: PathBuf,
}

/// Ports of loopback that nobody else is given, as long as the value lives.
#[derive(Debug, Default)]
pub struct Ports(Vec<Socket>);

impl Ports {
    /// A free port. It is bound, but not listened on, so that a program with `SO_REUSEADDR` can.
    pub fn free(&mut self) -> std::io::Result<u16> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let port = socket.local_addr()?.as_socket().map(|address| address.port());
        self.0.push(socket);
        port.ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Stage<'_> {
    /// The moved tree.
    pub fn tree(&mut self, tree: &[Directive]) -> Vec<Directive> {
        let http = tree.iter().find(|one| one.name == "http");
        let whole;
        let block = match http {
            Some(http) => http.children(),
            None => {
                whole = tree.to_vec();
                &whole
            }
        };
        self.find_blocks(block);
        let mut inner = self.block(block, "");
        let folder = self.folder.display();
        let mut front = vec![
            made("ssl_certificate", &[&format!("{folder}/tls.crt")]),
            made("ssl_certificate_key", &[&format!("{folder}/tls.key")]),
        ];
        front.append(&mut inner);
        vec![Directive { block: Some(front), ..made("http", &[]) }]
    }

    /// Which blocks are used by which protocol.
    fn find_blocks(&mut self, block: &[Directive]) {
        for directive in block {
            match directive.name.as_str() {
                "upstream" => {
                    self.blocks.entry(directive.first().into()).or_insert("http");
                }
                "proxy_pass" | "uwsgi_pass" => {
                    let protocol = if directive.name == "uwsgi_pass" { "uwsgi" } else { "http" };
                    if let Some(target) = Target::read(directive.first(), protocol) {
                        self.blocks.entry(target.address).and_modify(|known| *known = target.protocol);
                    }
                }
                _ => {}
            }
        }
        for directive in block {
            self.find_blocks(directive.children());
        }
    }

    fn block(&mut self, directives: &[Directive], upstream: &str) -> Vec<Directive> {
        let mut moved = Vec::new();
        for directive in directives {
            let name = directive.name.as_str();
            let is_left_out = LEFT_OUT.contains(&name)
                || (name.starts_with("ssl_") || name.starts_with("proxy_ssl_"))
                || name.contains("_cache")
                || name.ends_with("_temp_path");
            if !is_left_out {
                moved.extend(self.directive(directive, upstream));
            }
        }
        moved
    }

    fn directive(&mut self, directive: &Directive, upstream: &str) -> Vec<Directive> {
        let mut moved = directive.clone();
        match directive.name.as_str() {
            "listen" => return self.listen(directive).into_iter().collect(),
            "include" => return self.include(directive).into_iter().collect(),
            "alias" | "root" | "auth_basic_user_file" => self.path(&mut moved, 0),
            "upload_store" => self.path(&mut moved, 0),
            "server" if !upstream.is_empty() => {
                let protocol = self.blocks.get(upstream).copied().unwrap_or("http");
                if let Some(address) = moved.args.first_mut() {
                    *address = self.recorder(address, protocol, upstream);
                }
            }
            "proxy_pass" | "uwsgi_pass" => return self.pass(directive),
            // Rates high enough that no request of the replay is refused.
            "limit_req_zone" => {
                moved.args.iter_mut().filter(|arg| arg.starts_with("rate=")).for_each(|arg| {
                    *arg = "rate=10000r/s".into();
                });
            }
            "limit_conn" => {
                if let Some(most) = moved.args.get_mut(1) {
                    *most = "10000".into();
                }
            }
            _ => {}
        }
        let within = if directive.name == "upstream" { directive.first().to_owned() } else { String::new() };
        if let Some(block) = &directive.block {
            let is_data = matches!(directive.name.as_str(), "map" | "geo" | "types" | "split_clients");
            moved.block = Some(if is_data { block.clone() } else { self.block(block, &within) });
        }
        vec![moved]
    }

    fn listen(&self, directive: &Directive) -> Option<Directive> {
        directive.args.first()?;
        let (host, port) = address(directive.first())?;
        // IPv6 would be the same socket again.
        if host == "[::]" && self.ports.contains_key(&("*".to_owned(), port)) {
            return None;
        }
        let own = self.ports.get(&(host, port))?;
        let mut moved = directive.clone();
        moved.args[0] = format!("127.0.0.1:{own}");
        let kept = ["ssl", "default_server", "default", "http2"];
        moved.args = moved
            .args
            .into_iter()
            .enumerate()
            .filter(|(at, arg)| *at == 0 || kept.contains(&arg.as_str()))
            .map(|(_, arg)| arg)
            .collect();
        Some(moved)
    }

    /// Files of nginx's own package stay what they are; others were read already.
    fn include(&self, directive: &Directive) -> Option<Directive> {
        let name = directive.first().rsplit('/').next()?;
        let is_known = WELL_KNOWN.iter().any(|(known, _)| *known == name);
        let places = [self.home.join(directive.first()), Path::new("/etc/nginx").join(name)];
        let found = places.into_iter().find(|place| is_known && place.exists())?;
        Some(made("include", &[&found.display().to_string()]))
    }

    /// Puts a path below the scratch directory.
    fn path(&self, directive: &mut Directive, at: usize) {
        let Some(path) = directive.args.get_mut(at) else { return };
        let slash = if path.starts_with(['/', '$']) { "" } else { "/" };
        let home = if slash.is_empty() { String::new() } else { self.home.display().to_string() };
        *path = format!("{}/root{home}{slash}{path}", self.folder.display());
    }

    /// The recorder for an address.
    fn recorder(&mut self, address: &str, protocol: &'static str, label: &str) -> String {
        let folder = self.folder;
        let count = self.upstreams.recorders.len();
        let Upstreams { ports, recorders } = &mut *self.upstreams;
        let recorder = recorders.entry((format!("{label} {address}"), protocol)).or_insert_with(|| {
            let own = match address.starts_with("unix:") {
                true => format!("unix:{}/u{count}", folder.display()),
                false => format!("127.0.0.1:{}", ports.free().unwrap_or_default()),
            };
            Recorder { address: own, protocol, label: label.into() }
        });
        recorder.address.clone()
    }

    /// `proxy_pass` to a block stays; an address becomes that of a recorder. A host name without a port becomes a block,
    /// so that it is still the default of Host.
    fn pass(&mut self, directive: &Directive) -> Vec<Directive> {
        let protocol = if directive.name == "uwsgi_pass" { "uwsgi" } else { "http" };
        let Some(target) = Target::read(directive.first(), protocol) else { return vec![directive.clone()] };
        if self.blocks.contains_key(&target.address) || target.address.contains('$') {
            let own = (target.protocol == "https").then(|| made("proxy_ssl_verify", &["off"]));
            return own.into_iter().chain([directive.clone()]).collect();
        }
        let own = self.recorder(&target.address, target.protocol, &target.address);
        let mut moved = directive.clone();
        let uri = target.uri.clone().unwrap_or_default();
        moved.args[0] = match (target.protocol, own.starts_with("unix:")) {
            ("uwsgi", _) => own,
            (protocol, true) if uri.is_empty() => format!("{protocol}://{own}"),
            (protocol, true) => format!("{protocol}://{own}:{uri}"),
            (protocol, false) => format!("{protocol}://{own}{uri}"),
        };
        let mut all = Vec::new();
        if target.protocol == "https" {
            all.push(made("proxy_ssl_verify", &["off"]));
        }
        all.push(moved);
        all
    }
}

/// Host names of `proxy_pass` without a port, which become blocks.
pub fn name_hosts(tree: &[Directive]) -> Vec<Directive> {
    let mut hosts: BTreeMap<String, &'static str> = BTreeMap::new();
    collect_hosts(tree, &mut hosts);
    let known: Vec<&str> = tree
        .iter()
        .flat_map(Directive::children)
        .filter(|one| one.name == "upstream")
        .map(Directive::first)
        .collect();
    hosts.retain(|host, _| !known.contains(&host.as_str()));
    let mut tree = tree.to_vec();
    let blocks = hosts.into_iter().map(|(host, protocol)| {
        let port = if protocol == "https" { 443 } else { 80 };
        Directive {
            block: Some(vec![made("server", &[&format!("{host}:{port}")])]),
            ..made("upstream", &[&host])
        }
    });
    let blocks: Vec<Directive> = blocks.collect();
    if let Some(http) = tree.iter_mut().find(|one| one.name == "http")
        && let Some(block) = &mut http.block
    {
        block.splice(0..0, blocks);
    }
    tree
}

fn collect_hosts(tree: &[Directive], hosts: &mut BTreeMap<String, &'static str>) {
    for directive in tree {
        if directive.name == "proxy_pass"
            && let Some(target) = Target::read(directive.first(), "http")
        {
            let is_name = target.address.contains('.')
                && !target.address.contains([':', '$'])
                && target.address.parse::<std::net::IpAddr>().is_err();
            if is_name {
                hosts.insert(target.address, target.protocol);
            }
        }
        collect_hosts(directive.children(), hosts);
    }
}

/// Ports for all sockets of a configuration.
pub fn ports(tree: &[Directive], free: &mut Ports) -> std::io::Result<BTreeMap<(String, u16), u16>> {
    let mut ports = BTreeMap::new();
    collect_ports(tree, free, &mut ports)?;
    let any: Vec<u16> = ports.keys().filter(|(host, _)| host == "*").map(|(_, port)| *port).collect();
    ports.retain(|(host, port), _| host != "[::]" || !any.contains(port));
    Ok(ports)
}

fn collect_ports(
    tree: &[Directive],
    free: &mut Ports,
    ports: &mut BTreeMap<(String, u16), u16>,
) -> std::io::Result<()> {
    for directive in tree {
        if directive.name == "server" && directive.block.is_some() {
            let listens = directive.children().iter().filter(|one| one.name == "listen");
            let mut addresses: Vec<_> = listens.filter_map(|one| address(one.first())).collect();
            if addresses.is_empty() {
                addresses.push(("*".into(), 80));
            }
            for address in addresses {
                if let Entry::Vacant(entry) = ports.entry(address) {
                    entry.insert(free.free()?);
                }
            }
        } else {
            collect_ports(directive.children(), free, ports)?;
        }
    }
    Ok(())
}

/// Host and port of `listen`.
fn address(text: &str) -> Option<(String, u16)> {
    if text.starts_with("unix:") {
        return None;
    }
    if let Ok(port) = text.parse() {
        return Some(("*".into(), port));
    }
    match text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((host, port)) => {
            Some((if host == "0.0.0.0" { "*".into() } else { host.into() }, port.parse().ok()?))
        }
        None => Some((text.into(), 80)),
    }
}

/// A directive that stands nowhere in the original.
pub fn made(name: &str, args: &[&str]) -> Directive {
    Directive {
        id: usize::MAX,
        name: name.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        block: None,
        place: Place { file: "replay".into(), line: 0, column: 0 },
        comments: Vec::new(),
    }
}

/// The text of a tree.
pub fn print(tree: &[Directive], depth: usize, text: &mut String) {
    for directive in tree {
        let words: Vec<String> = std::iter::once(written(&directive.name))
            .chain(directive.args.iter().map(|arg| written(arg)))
            .collect();
        text.push_str(&"    ".repeat(depth));
        text.push_str(&words.join(" "));
        match &directive.block {
            None => text.push_str(";\n"),
            Some(block) => {
                text.push_str(" {\n");
                print(block, depth + 1, text);
                text.push_str(&"    ".repeat(depth));
                text.push_str("}\n");
            }
        }
    }
}

/// A word; one with a variable in braces must not be quoted differently.
fn written(word: &str) -> String {
    let has_variable = !expr::variables(word).is_empty();
    if has_variable && !word.contains([' ', ';', '"', '\'', '\\', '{', '}', '#']) {
        word.into()
    } else {
        quoted(word)
    }
}
