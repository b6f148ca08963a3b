//! Requests of the replay: for each location several paths, methods and headers, for each condition one that meets it,
//! for each server its hosts.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::{
        condition::{self, All, Atom, Test, Truth},
        expr::{self, Variables},
        map::{self, Key, Map},
        model::{Location, Matcher, Server},
        routes,
        sample::{sample, samples_of},
        syntax::Directive,
    },
    recorder::{ACCEL, LOCATION, STATUS},
};

/// A request of the replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Socket of the original: address and port.
    pub socket: (String, u16),
    /// Whether the socket has TLS.
    pub tls: bool,
    /// Host.
    pub host: String,
    /// Method.
    pub method: String,
    /// Target as sent.
    pub target: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
    /// The location that it is about.
    pub about: String,
}

impl Request {
    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        format!("{text}\r\n{}", self.body).into_bytes()
    }

    /// The request on one line.
    pub fn line(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
        let scheme = if self.tls { "https" } else { "http" };
        format!("{} {scheme}://{}{}{headers}", self.method, self.host, self.target)
    }

    fn get(&self, target: &str) -> Self {
        Self { target: target.into(), ..self.clone() }
    }

    fn method(&self, method: &str, target: &str) -> Self {
        Self { method: method.into(), ..self.get(target) }
    }

    /// With another header, or another value of one.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }

    fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }
}

/// All requests for a configuration.
pub fn all(servers: &[Server<'_>], maps: &[Map<'_>]) -> Vec<Request> {
    servers.iter().flat_map(|server| for_server(server, maps)).collect()
}

/// Requests for routes that `[site.galaxy]` adds: `added` has their keys, each with the path of Galaxy's static files, which
/// some request of `known` is about.
pub fn for_galaxy(known: &[Request], added: &[(String, String)]) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (key, statics) in added {
        let is_plain = |request: &&Request| {
            request.method == "GET"
                && request.target.trim_end_matches('/') == statics
                && request.headers.len() == 1
        };
        for base in known.iter().filter(is_plain) {
            let base = Request { about: format!("`{key}` of [site.galaxy]"), ..base.clone() };
            for path in samples_of(key).iter().take(4) {
                requests.extend([base.get(&encoded(path)), base.method("POST", &encoded(path)).body("a=1")]);
            }
        }
    }
    let mut unique: Vec<Request> = Vec::new();
    requests.into_iter().for_each(|request| {
        if !unique.contains(&request) {
            unique.push(request);
        }
    });
    unique
}

fn for_server(server: &Server<'_>, maps: &[Map<'_>]) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut sockets: Vec<(String, u16, bool)> = Vec::new();
    for listen in server.listens.iter().filter(|listen| listen.port != 0) {
        let socket = (listen.host.clone(), listen.port, listen.ssl);
        let is_twin = listen.host == "[::]" && sockets.iter().any(|(_, port, _)| *port == listen.port);
        if !is_twin {
            sockets.push(socket);
        }
    }
    for (number, (host, port, tls)) in sockets.into_iter().enumerate() {
        let hosts = hosts(server);
        let base = Request {
            socket: (host, port),
            tls,
            host: hosts[0].clone(),
            method: "GET".into(),
            target: "/".into(),
            headers: vec![("User-Agent".into(), "replay".into())],
            body: String::new(),
            about: "the server".into(),
        };
        for host in &hosts {
            for target in ["/", "/page?a=1&b=%20"] {
                requests.push(Request { host: host.clone(), ..base.get(target) });
            }
        }
        let odd = ["/a/../b", "/a//b", "/%41%2e", "/a%2Fb", "/..;/x", "/x%00", "/?", "/~user/a;b=c"];
        requests.extend(odd.map(|target| base.get(target)));
        if number == 0 {
            for location in &server.locations {
                for_location(server, location, &base, &mut requests);
            }
            for_conditions(server, maps, &base, &mut requests);
        }
    }
    requests
}

/// Hosts that a server has, the plainest first.
fn hosts(server: &Server<'_>) -> Vec<String> {
    let host = |name: &String| match name.strip_prefix('~') {
        Some(source) => sample(source, 1),
        None if name.starts_with("*.") => Some(format!("replay{}", &name[1..])),
        None if name.starts_with('.') => Some(name[1..].to_owned()),
        None if name.ends_with(".*") => Some(format!("{}.example", name.trim_end_matches(".*"))),
        None => Some(name.clone()),
    };
    let mut hosts: Vec<String> = server.names.iter().filter_map(host).collect();
    if hosts.is_empty() {
        hosts.push("replay.example".into());
    }
    hosts
}

fn for_location(server: &Server<'_>, location: &Location<'_>, base: &Request, requests: &mut Vec<Request>) {
    let about = location.directive.line();
    let base = Request { about, ..base.clone() };
    if location.scope.own().iter().any(|one| one.name == "stub_status") {
        requests.extend(location.matcher.path().map(|path| base.get(path)));
        return;
    }
    let is_internal = location.scope.own().iter().any(|one| one.name == "internal");
    let first = requests.len();
    match &location.matcher {
        Matcher::Exact(path) | Matcher::Caret(path) | Matcher::Prefix(path) if is_internal => {
            requests.push(base.get(&format!("{}/direct.txt", path.trim_end_matches('/'))));
            if !matches!(location.matcher, Matcher::Exact(_)) {
                accelerated(server, path, &base, requests);
            }
            return;
        }
        Matcher::Prefix(path) if routes::is_file(location, path) => for_file(path, &base, requests),
        Matcher::Exact(path) => for_file(path, &base, requests),
        Matcher::Prefix(path) | Matcher::Caret(path) => for_prefix(location, path, &base, requests),
        Matcher::Regex { source, .. } => {
            for seed in 0..4 {
                let Some(path) = sample(source, seed) else { continue };
                // An expression without an anchor matches the end of longer paths.
                let path = match (source.starts_with('^'), path.starts_with('/')) {
                    (true, true) => path,
                    (true, false) => format!("/{path}"),
                    (false, true) => format!("/some{path}"),
                    (false, false) => format!("/some/name{path}"),
                };
                let path = encoded(&path);
                requests.push(base.get(&path));
                if seed < 2 {
                    requests.extend([base.method("HEAD", &path), base.get(&format!("{path}?a=1"))]);
                }
            }
        }
        Matcher::Named(_) => return,
    }
    let parameters = parameters(location);
    for request in &mut requests[first..] {
        for name in &parameters {
            let sign = if request.target.contains('?') { '&' } else { '?' };
            request.target.push_str(&format!("{sign}{name}=7"));
        }
    }
    if asks_for_password(location) {
        let token = BASE64_STANDARD.encode("bowshock:replay");
        let wrong = BASE64_STANDARD.encode("bowshock:wrong");
        let known: Vec<Request> = requests[first..].to_vec();
        requests.extend(known.into_iter().map(|one| one.with("Authorization", &format!("Basic {token}"))));
        let again = requests[first].clone();
        requests.push(again.with("Authorization", &format!("Basic {wrong}")));
    }
}

/// Query parameters that a location looks at.
fn parameters(location: &Location<'_>) -> Vec<String> {
    fn collect(directives: &[Directive], names: &mut Vec<String>) {
        for directive in directives {
            let variables = directive.args.iter().flat_map(|arg| expr::variables(arg));
            names.extend(variables.filter_map(|name| name.strip_prefix("arg_").map(str::to_owned)));
            collect(directive.children(), names);
        }
    }
    let mut names = Vec::new();
    collect(location.scope.own(), &mut names);
    names.sort();
    names.dedup();
    names
}

/// Whether a location sends everybody elsewhere.
fn only_returns(location: &Location<'_>) -> bool {
    location.scope.own().iter().any(|one| one.name == "return")
}

fn asks_for_password(location: &Location<'_>) -> bool {
    location.scope.one("auth_basic").is_some_and(|directive| directive.first() != "off")
}

fn for_file(path: &str, base: &Request, requests: &mut Vec<Request>) {
    requests.extend([
        base.get(path),
        base.method("HEAD", path),
        base.get(&format!("{path}?a=1&b=x%20y")),
        base.get(path).with("Accept-Encoding", "gzip"),
        base.get(path).with("Range", "bytes=2-5"),
        base.method("POST", path).body("a=1").with("Content-Type", "application/x-www-form-urlencoded"),
    ]);
}

fn for_prefix(location: &Location<'_>, path: &str, base: &Request, requests: &mut Vec<Request>) {
    let bare = path.trim_end_matches('/');
    let below = |rest: &str| format!("{bare}/{rest}");
    if only_returns(location) {
        requests.extend([
            base.get(path),
            base.get(&below("a/b?c=1&d=%20")),
            base.method("POST", &below("x")).body("a=1"),
        ]);
        return;
    }
    requests.extend([
        base.get(path),
        base.get(&below("file.txt")),
        base.method("HEAD", &below("file.txt")),
        base.get(&below("missing.css")),
        base.get(&below("a/b/script.js?v=1&w=%2F")),
        base.get(&below("page.html")).with("Accept-Encoding", "gzip"),
        base.get(&below("with%20space%2Bplus.txt")),
        base.get(&below("caf%C3%A9.txt")),
        base.get(&below("file.txt")).with("Range", "bytes=2-5"),
        base.method("POST", &below("form"))
            .body("a=1&b=2")
            .with("Content-Type", "application/x-www-form-urlencoded"),
        base.method("OPTIONS", &below("item.json")),
    ]);
    if path.ends_with('/') && !bare.is_empty() {
        requests.push(base.get(bare));
    } else if !bare.is_empty() {
        requests.push(base.get(&format!("{bare}-neighbour")));
    }
    if location.scope.own().iter().any(|one| matches!(one.name.as_str(), "alias" | "root")) {
        return;
    }
    requests.extend([
        base.method("PUT", &below("item")).body("content"),
        base.method("DELETE", &below("item?id=7")),
        base.get(&below("answer")).with(STATUS, "404"),
        base.get(&below("answer")).with(STATUS, "500"),
        base.get(&below("login")).with(LOCATION, "/elsewhere?x=1"),
        base.get(&below("item")).with("Cookie", "galaxysession=abc; other=1").with("X-Api-Key", "key"),
        base.get(&below("item")).with("Origin", "https://other.example"),
        base.get(&below("item")).with("Authorization", "Bearer token"),
        base.get(&below("item"))
            .with("Accept", "application/json")
            .with("X-Requested-With", "XMLHttpRequest"),
    ]);
}

/// Files that the application names (X-Accel-Redirect).
fn accelerated(server: &Server<'_>, path: &str, base: &Request, requests: &mut Vec<Request>) {
    let is_proxy = |location: &&Location<'_>| {
        location.matcher.path() == Some("/") && !location.scope.own().iter().any(|one| one.name == "return")
    };
    if !server.locations.iter().any(|location| is_proxy(&location)) {
        return;
    }
    let bare = path.trim_end_matches('/');
    let named = |file: &str| base.get("/api/datasets/1/display").with(ACCEL, &format!("{bare}/{file}"));
    requests.extend([
        named("data/set.txt"),
        named("data/set.txt").with("Range", "bytes=1-3"),
        named("data/missing.bin"),
        Request { method: "HEAD".into(), ..named("data/set.txt") },
    ]);
}

/// For each condition and each entry of a map a request that meets it.
fn for_conditions(server: &Server<'_>, maps: &[Map<'_>], base: &Request, requests: &mut Vec<Request>) {
    let variables =
        Variables { maps: maps.iter().map(|map| map.name.clone()).collect(), ..Variables::default() };
    let mut found: Vec<(String, Vec<All>)> = Vec::new();
    conditions(server.directive.children(), "/", &variables, maps, &mut found);
    for (path, cases) in found {
        for case in cases {
            let mut request = Request { about: "a condition".into(), ..base.get(&path) };
            case.atoms.iter().for_each(|atom| meet(&mut request, atom));
            requests.push(request);
        }
    }
    for map in maps {
        for entry in &map.entries {
            if let Key::Matches { source, .. } = &entry.key
                && let Some(header) = map.source.strip_prefix("$http_")
                && let Some(value) = sample(source, 1)
                    .filter(|value| map::compiled(source, true).is_some_and(|regex| regex.is_match(value)))
            {
                let name = expr::header_name(header);
                requests.push(base.get("/item").with(&name, &value));
            }
        }
    }
}

fn conditions(
    directives: &[Directive],
    path: &str,
    variables: &Variables,
    maps: &[Map<'_>],
    found: &mut Vec<(String, Vec<All>)>,
) {
    for directive in directives {
        match directive.name.as_str() {
            "if" => {
                if let Truth::Any(cases) | Truth::None(cases) =
                    condition::evaluate(&directive.args, variables, maps)
                {
                    found.push((path.into(), cases));
                }
                conditions(directive.children(), path, variables, maps, found);
            }
            "location" => {
                let word = directive.args.last().map_or("/", String::as_str);
                let is_regex = directive.first().starts_with('~');
                let inner =
                    if is_regex { sample(word, 1).map(|path| encoded(&path)) } else { Some(word.to_owned()) };
                if let Some(inner) = inner.filter(|inner| inner.starts_with('/')) {
                    conditions(directive.children(), &inner, variables, maps, found);
                }
            }
            "rewrite" => {
                if let Some(path) = sample(directive.first(), 1).filter(|path| path.starts_with('/')) {
                    found.push((encoded(&path), vec![All::default()]));
                }
            }
            _ => {}
        }
    }
}

/// Changes a request so that it meets a condition.
fn meet(request: &mut Request, atom: &Atom) {
    let value = |test: &Test| match test {
        Test::Present => Some("1".to_owned()),
        Test::Absent => None,
        Test::Is(text) => Some(text.clone()),
        Test::Matches(pattern) => sample(pattern.trim_start_matches(['~', '*', ' ']), 1),
    };
    let changed = request.clone();
    *request = match atom {
        Atom::Methods(methods) => Request { method: methods.first().cloned().unwrap_or_default(), ..changed },
        Atom::Header(name, test) => value(test).map_or(changed.clone(), |value| changed.with(name, &value)),
        Atom::UserAgent(pattern) => match sample(pattern.trim_start_matches(['~', '*', ' ']), 1) {
            Some(value) => changed.with("User-Agent", &value),
            None => changed,
        },
        Atom::Cookie(name, test) => {
            value(test).map_or(changed.clone(), |value| changed.with("Cookie", &format!("{name}={value}")))
        }
        Atom::Query(name, test) => match value(test) {
            Some(value) => {
                let sign = if changed.target.contains('?') { '&' } else { '?' };
                let target = format!("{}{sign}{name}={}", changed.target, encoded(&value));
                changed.get(&target)
            }
            None => changed,
        },
        Atom::Path(source, _) => {
            sample(source, 1).map_or(changed.clone(), |path| changed.get(&encoded(&path)))
        }
        Atom::PathIs(path) => {
            let query =
                changed.target.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
            changed.get(&format!("{path}{query}"))
        }
        Atom::Host(host) if !host.starts_with('~') => Request { host: host.clone(), ..changed },
        _ => changed,
    };
}

/// Percent-encodes what cannot stand in a path.
fn encoded(path: &str) -> String {
    const UNSAFE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'<')
        .add(b'>')
        .add(b'%')
        .add(b'#')
        .add(b'?')
        .add(b'\\');
    percent_encoding::utf8_percent_encode(path, UNSAFE).to_string()
}
