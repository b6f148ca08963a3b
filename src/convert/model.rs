//! Servers and locations of nginx, with the settings in effect for each.

use super::{map, scope::Scope, syntax::Directive};

/// A `server` block.
#[derive(Debug, Clone)]
pub struct Server<'a> {
    /// The block.
    pub directive: &'a Directive,
    /// Settings in effect.
    pub scope: Scope<'a>,
    /// Names, without those that no host can have.
    pub names: Vec<String>,
    /// Sockets.
    pub listens: Vec<Listen<'a>>,
    /// All locations, nested ones too, in the order of the search among regular expressions.
    pub locations: Vec<Location<'a>>,
}

/// A `listen` directive.
#[derive(Debug, Clone)]
pub struct Listen<'a> {
    /// Address without the port: `*`, an IP address, a name, or `unix:/path`.
    pub host: String,
    /// Port; 0 for a unix socket.
    pub port: u16,
    /// Whether it says `ssl`.
    pub ssl: bool,
    /// Whether it says `default_server`.
    pub is_default: bool,
    /// Whether it says `proxy_protocol`.
    pub proxy_protocol: bool,
    /// The directive; `None` for the default that a server without `listen` has.
    pub directive: Option<&'a Directive>,
}

/// A `location` block.
#[derive(Debug, Clone)]
pub struct Location<'a> {
    /// The block.
    pub directive: &'a Directive,
    /// Paths that it serves.
    pub matcher: Matcher,
    /// Settings in effect.
    pub scope: Scope<'a>,
}

/// Paths that a location serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// `= /path`
    Exact(String),
    /// `/prefix`
    Prefix(String),
    /// `^~ /prefix`
    Caret(String),
    /// `~ regex` or `~* regex`
    Regex {
        /// The expression.
        source: String,
        /// Whether case is ignored.
        any_case: bool,
    },
    /// `@name`
    Named(String),
}

impl Matcher {
    /// The path, of a location that is no regular expression.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Exact(path) | Self::Prefix(path) | Self::Caret(path) => Some(path),
            Self::Regex { .. } | Self::Named(_) => None,
        }
    }

    /// Whether the location has all paths that begin with its own.
    pub fn is_prefix(&self) -> bool {
        matches!(self, Self::Prefix(_) | Self::Caret(_))
    }
}

/// All servers of the `http` block.
pub fn servers(http: &[Directive]) -> Vec<Server<'_>> {
    let outer = Scope::of(http);
    http.iter()
        .filter(|one| one.name == "server" && one.block.is_some())
        .map(|one| server(one, &outer))
        .collect()
}

fn server<'a>(directive: &'a Directive, outer: &Scope<'a>) -> Server<'a> {
    let block = directive.children();
    let scope = outer.within(block);
    let named = block.iter().filter(|one| one.name == "server_name").flat_map(|one| &one.args);
    let names = named.filter(|name| !name.is_empty() && *name != "_" && *name != "*").cloned().collect();
    let mut listens: Vec<_> = block.iter().filter(|one| one.name == "listen").filter_map(listen).collect();
    if listens.is_empty() {
        listens.push(Listen {
            host: "*".into(),
            port: 80,
            ssl: false,
            is_default: false,
            proxy_protocol: false,
            directive: None,
        });
    }
    if scope.one("ssl").is_some_and(|ssl| ssl.first() == "on") {
        listens.iter_mut().for_each(|listen| listen.ssl = true);
    }
    let mut locations = Vec::new();
    collect(block, &scope, &mut locations);
    Server { directive, scope, names, listens, locations }
}

fn listen(directive: &Directive) -> Option<Listen<'_>> {
    let address = directive.first();
    let (host, port) = if address.starts_with("unix:") {
        (address.to_owned(), 0)
    } else if let Ok(port) = address.parse() {
        ("*".into(), port)
    } else {
        match address.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((host, port)) => (host.to_owned(), port.parse().ok()?),
            None => (address.to_owned(), 80),
        }
    };
    let has = |word: &str| directive.args.iter().any(|arg| arg == word);
    let host = if host == "0.0.0.0" { "*".into() } else { host };
    Some(Listen {
        host,
        port,
        ssl: has("ssl"),
        is_default: has("default_server") || has("default"),
        proxy_protocol: has("proxy_protocol"),
        directive: Some(directive),
    })
}

/// Locations of a block: nested ones first, as nginx searches them before the regular expressions around them.
fn collect<'a>(block: &'a [Directive], scope: &Scope<'a>, found: &mut Vec<Location<'a>>) {
    for directive in block.iter().filter(|one| one.name == "location") {
        let Some(matcher) = matcher(directive) else { continue };
        let inner = scope.within(directive.children());
        let nested = found.len();
        collect(directive.children(), &inner, found);
        if let Some(prefix) = matcher.path() {
            found[nested..].iter_mut().for_each(|location| confine(location, prefix));
        }
        found.push(Location { directive, matcher, scope: inner });
    }
}

fn matcher(directive: &Directive) -> Option<Matcher> {
    let (word, text) = match directive.args.as_slice() {
        [word, text] => (word.as_str(), text.as_str()),
        [text] => ["=", "^~", "~*", "~", "@"]
            .into_iter()
            .find_map(|word| text.strip_prefix(word).map(|rest| (word, rest)))
            .unwrap_or(("", text)),
        _ => return None,
    };
    let text = text.to_owned();
    Some(match word {
        "=" => Matcher::Exact(text),
        "^~" => Matcher::Caret(text),
        "~*" => Matcher::Regex { source: text, any_case: true },
        "~" => Matcher::Regex { source: text, any_case: false },
        "@" => Matcher::Named(format!("@{text}")),
        _ => Matcher::Prefix(text),
    })
}

/// A nested regular expression is searched below the prefix around it only.
fn confine(location: &mut Location<'_>, prefix: &str) {
    let Matcher::Regex { source, .. } = &mut location.matcher else { return };
    let prefix = regex::escape(prefix);
    if prefix == "/" || source.starts_with(&format!("^{prefix}")) {
        return;
    }
    *source = match source.strip_prefix('^') {
        Some(_) => return,
        None => format!("^{prefix}.*(?:{source})"),
    };
}

impl<'a> Server<'a> {
    /// The location for a path, by nginx's rules.
    pub fn find(&self, path: &str) -> Option<&Location<'a>> {
        let exact =
            |location: &&Location<'_>| matches!(&location.matcher, Matcher::Exact(exact) if exact == path);
        if let Some(location) = self.locations.iter().find(exact) {
            return Some(location);
        }
        let prefix = self.longest_prefix(path);
        if matches!(prefix.map(|location| &location.matcher), Some(Matcher::Caret(_))) {
            return prefix;
        }
        let matches = |location: &&Location<'_>| match &location.matcher {
            Matcher::Regex { source, any_case } => {
                map::compiled(source, *any_case).is_some_and(|regex| regex.is_match(path))
            }
            _ => false,
        };
        self.locations.iter().find(matches).or(prefix)
    }

    /// The prefix location for a path.
    pub fn longest_prefix(&self, path: &str) -> Option<&Location<'a>> {
        let length = |location: &&Location<'_>| match &location.matcher {
            Matcher::Prefix(prefix) | Matcher::Caret(prefix) if path.starts_with(prefix) => {
                Some(prefix.len())
            }
            _ => None,
        };
        self.locations
            .iter()
            .filter(|location| length(location).is_some())
            .max_by_key(|location| length(location))
    }

    /// A named location.
    pub fn named(&self, name: &str) -> Option<&Location<'a>> {
        self.locations
            .iter()
            .find(|location| matches!(&location.matcher, Matcher::Named(known) if known == name))
    }

    /// Whether one of its sockets, together with other servers on the same, has TLS.
    pub fn is_tls(&self) -> bool {
        self.listens.iter().any(|listen| listen.ssl)
    }
}

/// Removes names that a server before has on the same socket: nginx ignores them.
pub fn drop_conflicts<'a>(servers: &mut [Server<'a>]) -> Vec<(&'a Directive, String)> {
    let mut taken: Vec<(String, u16, String)> = Vec::new();
    let mut dropped = Vec::new();
    for server in servers {
        let directive = server.directive;
        let sockets: Vec<(String, u16)> =
            server.listens.iter().map(|one| (one.host.clone(), one.port)).collect();
        server.names.retain(|name| {
            let is_taken =
                |(host, port): &(String, u16)| taken.contains(&(host.clone(), *port, name.clone()));
            if sockets.iter().all(is_taken) {
                dropped.push((directive, name.clone()));
                return false;
            }
            taken.extend(sockets.iter().map(|(host, port)| (host.clone(), *port, name.clone())));
            true
        });
    }
    dropped
}

/// Sets `ssl` on all sockets of an address that one server has it on, as nginx does.
pub fn share_tls(servers: &mut [Server<'_>]) {
    let all = servers.iter().flat_map(|server| &server.listens).filter(|listen| listen.ssl);
    let tls: Vec<(String, u16)> = all.map(|listen| (listen.host.clone(), listen.port)).collect();
    for listen in servers.iter_mut().flat_map(|server| &mut server.listens) {
        listen.ssl |= tls.iter().any(|(host, port)| *host == listen.host && *port == listen.port);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::syntax, *};

    #[test]
    fn locations_are_found_as_by_nginx() {
        let text = "server {
            location / {} location = /a {} location /a {} location ^~ /c {} location ~ \\.js$ {}
            location /d/ { location ~ \\.css$ {} location /d/e {} } location ~ \\.css$ {} location @n {}
        }";
        let tree = syntax::parse(&"x".into(), text, &mut 0).unwrap();
        let servers = servers(&tree);
        for (path, location) in [
            ("/", "/"),
            ("/a", "= /a"),
            ("/ab", "/a"),
            ("/a.js", "~ \\.js$"),
            ("/c.js", "^~ /c"),
            ("/d/x.css", "~ \\.css$"),
            ("/d/e", "/d/e"),
            ("/d", "/"),
        ] {
            let found = servers[0].find(path).unwrap();
            assert_eq!(found.directive.args.join(" "), location, "{path}");
        }
        assert!(matches!(&servers[0].find("/d/x.css").unwrap().matcher,
            Matcher::Regex { source, .. } if source == "^/d/.*(?:\\.css$)"));
        assert!(servers[0].named("@n").is_some());
    }

    #[test]
    fn addresses_of_listen() {
        let text =
            "server { listen 80; listen [::]:443 ssl default_server; listen 127.0.0.1:8080; listen *:81;
            listen unix:/run/x.sock; listen localhost; }";
        let tree = syntax::parse(&"x".into(), text, &mut 0).unwrap();
        let found: Vec<_> =
            servers(&tree)[0].listens.iter().map(|one| (one.host.clone(), one.port, one.ssl)).collect();
        let expected = [
            ("*", 80, false),
            ("[::]", 443, true),
            ("127.0.0.1", 8080, false),
            ("*", 81, false),
            ("unix:/run/x.sock", 0, false),
            ("localhost", 80, false),
        ];
        assert_eq!(found, expected.map(|(host, port, ssl)| (host.to_owned(), port, ssl)));
    }
}
