//! Addresses of listening sockets, upstream servers and name servers.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    diagnostic::{Problem, show},
    listen::Address,
    upstream::{ServerAddress, unsupported},
};

/// `sun_path` of Linux holds 108 bytes with the final zero.
const LONGEST_UNIX: usize = 107;

/// Reads an address to listen on: `"[::]:443"`, `"127.0.0.1:8080"`, `"unix:/run/bowshock/http.sock"`.
pub fn listen(text: &str) -> Result<Address, Problem> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(text, path).map(Address::Unix);
    }
    if text.starts_with("fd:") {
        return Err(Problem::new(
            format!("{} is not available in this version", show(text)),
            "planned, not implemented yet",
        )
        .help(
            "write an address and a port, or the path of a unix socket: `\"unix:/run/bowshock/http.sock\"`",
        ));
    }
    text.parse().map(Address::Tcp).map_err(|_| listen_problem(text))
}

/// Reads the address of an upstream server: `"unix:/run/gunicorn.sock"`, `"127.0.0.1:8080"`, `"worker1:8080"`.
pub fn server(text: &str) -> Result<ServerAddress, Problem> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(text, path).map(ServerAddress::Unix);
    }
    let address = match text.parse() {
        Ok(address) => ServerAddress::Tcp(address),
        Err(_) => match text.rsplit_once(':') {
            // A name that ends with a dot is fully qualified: no search list is applied (RFC 1034 §3.1).
            Some((host, port)) if is_name(host.strip_suffix('.').unwrap_or(host)) => {
                let port = port.parse().map_err(|_| server_problem(text))?;
                ServerAddress::Name(host.to_ascii_lowercase(), port)
            }
            _ => return Err(server_problem(text)),
        },
    };
    match &address {
        ServerAddress::Tcp(to) if to.port() == 0 => Err(port_zero(text)),
        ServerAddress::Name(_, 0) => Err(port_zero(text)),
        // Linux happens to connect to the unspecified address as to this machine; elsewhere it fails.
        ServerAddress::Tcp(to) if to.ip().is_unspecified() => {
            let here = if to.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            Err(Problem::new(
                format!("{} is not an address to connect to", show(text)),
                "an address to listen on",
            )
            .help(format!("write `\"{here}:{}\"` for a worker on this machine", to.port())))
        }
        _ => Ok(address),
    }
}

/// Reads the address of a name server, `"10.0.0.2"` or `"127.0.0.1:8600"`; the default port is that of DNS, 53.
pub fn name_server(text: &str) -> Result<SocketAddr, Problem> {
    const DNS: u16 = 53;
    let bare = || text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS));
    text.parse().or_else(|_| bare()).map_err(|_| {
        Problem::new(format!("{} is not the address of a name server", show(text)), "needs an IP address")
            .help("write for example `\"10.0.0.2\"`, or `\"127.0.0.1:8600\"` with another port than 53")
    })
}

/// Whether `host` is a host name as DNS or `/etc/hosts` may contain it.
pub fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // Digits and dots alone are a mistyped IP address, never a name.
    host.len() <= 253 && host.split('.').all(label) && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn unix(text: &str, path: &str) -> Result<PathBuf, Problem> {
    if !path.starts_with('/') {
        let absolute = path.trim_start_matches("./");
        return Err(Problem::new(
            format!("the path of {} is not absolute", show(text)),
            "must start with `/`",
        )
        .help(format!("write the whole path, for example `{:?}`", format!("unix:/run/{absolute}"))));
    }
    if let Some(single) = path.strip_prefix("//") {
        let single = single.trim_start_matches('/');
        return Err(Problem::new(format!("{} is written like a URL", show(text)), "too many slashes")
            .help(format!("write `{:?}`", format!("unix:/{single}"))));
    }
    if path.len() > LONGEST_UNIX {
        let label = format!("{} bytes; the system allows {LONGEST_UNIX}", path.len());
        return Err(Problem::new("the path of this unix socket is too long", label)
            .help("use a shorter directory, for example `\"unix:/run/bowshock/…\"`"));
    }
    if path.ends_with('/') || path.contains('\0') {
        return Err(Problem::new(format!("{} is not the path of a socket", show(text)), "names no file")
            .help("write for example `\"unix:/run/bowshock/http.sock\"`"));
    }
    Ok(path.into())
}

fn listen_problem(text: &str) -> Problem {
    let problem = Problem::new(
        format!("{} is not an address to listen on", show(text)),
        "needs an IP address and a port",
    );
    let port = |text: &str| text.parse::<u16>().is_ok();
    let suggestion = match text.rsplit_once(':') {
        _ if text.starts_with('/') => format!("unix:{text}"),
        _ if text.contains("://") => {
            return problem.help("write only the address and port, for example `\"[::]:443\"`");
        }
        _ if port(text) => format!("[::]:{text}"),
        Some(("" | "*", number)) if port(number) => format!("[::]:{number}"),
        Some(("localhost", number)) if port(number) => format!("127.0.0.1:{number}"),
        Some((host, number)) if port(number) && host.parse::<Ipv6Addr>().is_ok() => {
            format!("[{host}]:{number}")
        }
        Some((host, number)) if port(number) && is_name(host) => {
            return problem.help(format!(
                "names are not looked up here: write the IP address of an interface, \
                 or `\"[::]:{number}\"` for all of them"
            ));
        }
        _ => match text.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, 8080).to_string(),
            Err(_) => {
                return problem.help(
                    "write for example `\"[::]:443\"` (all interfaces), `\"127.0.0.1:8080\"` \
                     or `\"unix:/run/bowshock/http.sock\"`",
                );
            }
        },
    };
    problem.help(format!("write `{suggestion:?}`"))
}

fn server_problem(text: &str) -> Problem {
    let problem =
        Problem::new(format!("{} is not the address of a server", show(text)), "needs a host and a port");
    let general =
        "write for example `\"unix:/run/galaxy/gunicorn.sock\"`, `\"127.0.0.1:8080\"` or `\"worker1:8080\"`";
    if let Some(problem) = unsupported::url(text) {
        return problem;
    }
    if let Some(rest) = text.strip_prefix("https://") {
        let host = rest.split('/').next().unwrap_or_default();
        let suggestion = if server(host).is_ok() { host.into() } else { format!("{host}:443") };
        return Problem { label: "an address, not a URL".into(), ..problem }
            .help(format!("write `{suggestion:?}`, and beside `servers` `protocol = \"https\"`"));
    }
    if let Some(rest) = text.strip_prefix("http://") {
        let host = rest.split('/').next().unwrap_or_default();
        if let Some(path) = rest.strip_prefix("unix:") {
            return problem.help(format!("write `{:?}`", format!("unix:{}", path.trim_end_matches(":/"))));
        }
        let suggestion = if server(host).is_ok() { host.into() } else { format!("{host}:80") };
        return match server(&suggestion) {
            Ok(_) => Problem { label: "an address, not a URL".into(), ..problem }
                .help(format!("write `{suggestion:?}`")),
            Err(_) => problem.help(general),
        };
    }
    let suggestion = match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        _ if text.starts_with('/') => format!("unix:{text}"),
        Ok(ip) => SocketAddr::new(ip, 8080).to_string(),
        Err(_) if is_name(text) => format!("{text}:8080"),
        Err(_) if text.parse::<u16>().is_ok() => format!("127.0.0.1:{text}"),
        Err(_) => match text.strip_prefix(':') {
            Some(port) if port.parse::<u16>().is_ok() => format!("127.0.0.1:{port}"),
            _ => return problem.help(general),
        },
    };
    problem.help(format!("write `{suggestion:?}`"))
}

fn port_zero(text: &str) -> Problem {
    Problem::new(format!("port 0 of {} cannot be connected to", show(text)), "must be from 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        result.unwrap_err().help.unwrap_or_default()
    }

    #[test]
    fn addresses_to_listen_on() {
        for good in ["[::]:443", "127.0.0.1:0", "0.0.0.0:80", "unix:/run/x.sock"] {
            assert_eq!(listen(good).unwrap().to_string(), good);
        }
        for (bad, suggestion) in [
            (":8080", "\"[::]:8080\""),
            ("8080", "\"[::]:8080\""),
            ("*:80", "\"[::]:80\""),
            ("localhost:80", "\"127.0.0.1:80\""),
            ("::1:80", "\"[::1]:80\""),
            ("127.0.0.1", "\"127.0.0.1:8080\""),
            ("/run/x.sock", "\"unix:/run/x.sock\""),
            ("unix:x.sock", "\"unix:/run/x.sock\""),
            ("unix:///run/x.sock", "\"unix:/run/x.sock\""),
            ("galaxy.example.org:80", "\"[::]:80\""),
            ("http://x:80", "\"[::]:443\""),
            ("", "for example"),
        ] {
            assert!(help(listen(bad)).contains(suggestion), "{bad}: {}", help(listen(bad)));
        }
        assert!(listen("fd:http").unwrap_err().title.contains("not available"));
        assert!(listen(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(listen(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn addresses_of_servers() {
        for good in [
            "[::1]:80",
            "127.0.0.1:8080",
            "worker1:8080",
            "unix:/run/x.sock",
            "a_b.c-d.example:1",
            "a.example.:1",
        ] {
            assert_eq!(server(good).unwrap().to_string(), good);
        }
        for (bad, suggestion) in [
            ("http://worker1:8080", "\"worker1:8080\""),
            ("http://worker1/", "\"worker1:80\""),
            ("http://unix:/run/x.sock:/", "\"unix:/run/x.sock\""),
            ("worker1", "\"worker1:8080\""),
            ("10.0.0.1", "\"10.0.0.1:8080\""),
            ("::1", "\"[::1]:8080\""),
            (":8080", "\"127.0.0.1:8080\""),
            ("8080", "\"127.0.0.1:8080\""),
            ("/run/x.sock", "\"unix:/run/x.sock\""),
            ("0.0.0.0:8080", "\"127.0.0.1:8080\""),
            ("a b:80", "for example"),
            ("a..:80", "for example"),
            ("10.0.0.300:80", "for example"),
        ] {
            assert!(help(server(bad)).contains(suggestion), "{bad}: {}", help(server(bad)));
        }
        assert!(server("worker1:0").is_err());
        assert!(server("worker1:99999").is_err());
    }
}
