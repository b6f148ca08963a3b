//! Protocols that servers may speak and this proxy does not, and addresses that name a protocol: what to write instead.

use crate::config::{
    address,
    diagnostic::{Problem, show},
};

/// Words for protocols that are not spoken to servers: the protocol's name, and what to do instead.
const PROTOCOLS: [(&[&str], &str, &str); 4] = [
    (
        &["fastcgi", "fcgi"],
        "FastCGI",
        "run the application under an HTTP server, or put one that speaks FastCGI (nginx, Caddy) between, and write the \
         address of that",
    ),
    (
        &["scgi"],
        "SCGI",
        "have the server speak HTTP or uwsgi: in uWSGI `socket` in place of `scgi-socket`, and here `protocol = \"uwsgi\"`",
    ),
    (
        &["ajp", "ajp13"],
        "AJP",
        "use the HTTP connector of Tomcat or Jetty, and write its address without `protocol`",
    ),
    (
        &["h3", "http3", "quic"],
        "HTTP/3",
        "servers that speak it speak HTTP/1.1 over TLS too: write `protocol = \"https\"`",
    ),
];

/// Schemes of URLs for protocols that are spoken: what to write beside `servers`.
const SCHEMES: [(&str, &str); 9] = [
    ("uwsgi", "uwsgi"),
    ("suwsgi", "uwsgi"),
    ("h2", "h2"),
    ("h2c", "h2c"),
    ("grpcs", "h2"),
    ("grpc", "h2c"),
    ("wss", "https"),
    ("ws", ""),
    ("tcp", ""),
];

/// The problem of `protocol = "text"`, if that is a protocol that is not supported.
pub fn protocol(text: &str) -> Option<Problem> {
    let text = text.to_ascii_lowercase();
    let (_, name, help) = PROTOCOLS.iter().find(|(words, ..)| words.contains(&&*text))?;
    Some(Problem::new(format!("{name} is not supported"), "servers speak HTTP or uwsgi").help(*help))
}

/// The problem of an address of a server that is a URL of another scheme than `http` and `https`.
pub fn url(text: &str) -> Option<Problem> {
    let (scheme, rest) = text.split_once("://")?;
    if let Some(problem) = protocol(scheme) {
        return Some(problem);
    }
    let scheme = scheme.to_ascii_lowercase();
    let (_, word) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
    let server = match rest.strip_prefix("unix:").unwrap_or(rest) {
        path if path.starts_with('/') => format!("unix:{path}"),
        host => host.split('/').next().unwrap_or_default().into(),
    };
    let server = if address::server(&server).is_ok() { server } else { "worker1:8080".into() };
    let beside = match *word {
        "" => String::new(),
        word => format!(", and beside `servers` `protocol = \"{word}\"`"),
    };
    let title = format!("{} is not the address of a server", show(text));
    Some(Problem::new(title, "an address, not a URL").help(format!("write `{server:?}`{beside}")))
}
