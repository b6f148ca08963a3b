//! Entries of a map as Galaxy writes them.

use std::net::IpAddr;

use http::{HeaderName, header};
use serde::Deserialize;

use crate::{config::ServerAddress, message::is_hop_by_hop};

/// Entry of a map, not checked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) token: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<i64>,
    /// JSON, as Galaxy writes it.
    pub(super) info: Option<String>,
}

/// Entry of a map, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) token: String,
    /// Where the tool listens.
    pub(super) server: ServerAddress,
    /// Whether the tool wants its whole path (`requires_path_in_url`).
    pub(super) wants_whole_path: bool,
    /// Header in which the tool wants the first part of its path (`requires_path_in_header_named`).
    pub(super) path_header: Option<HeaderName>,
}

/// `info` of an entry.
#[derive(Deserialize)]
struct Info {
    requires_path_in_url: Option<bool>,
    requires_path_in_header_named: Option<String>,
}

impl TryFrom<Row> for Entry {
    type Error = String;

    /// # Errors
    ///
    /// What is wrong, for the log. No token is in it.
    fn try_from(row: Row) -> Result<Self, String> {
        let Row { key, token, host, port, info } = row;
        let is_plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !is_plain(&key) {
            return Err("its key has other characters than letters and digits".into());
        }
        let token = token.filter(is_plain).ok_or("it has no token of letters and digits")?;
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let port = port.ok_or("it has no port from 1 to 65535")?;
        let host = host.unwrap_or_default();
        let server = server(&host, port).ok_or_else(|| format!("its host is {host:?}"))?;
        let info = info.filter(|info| !info.trim().is_empty());
        // `null` is no information as well.
        let info = info.map(|info| serde_json::from_str::<Option<Info>>(&info)).transpose();
        let info = info.map_err(|error| format!("its info cannot be read: {error}"))?.flatten();
        let named = info.as_ref().and_then(|info| info.requires_path_in_header_named.as_deref());
        let named = named.filter(|name| !name.is_empty());
        let path_header = named.map(|name| {
            header_name(name).ok_or_else(|| format!("its path cannot be sent in a header named {name:?}"))
        });
        Ok(Self {
            key,
            token,
            server,
            wants_whole_path: info.is_some_and(|info| info.requires_path_in_url == Some(true)),
            path_header: path_header.transpose()?,
        })
    }
}

fn server(host: &str, port: u16) -> Option<ServerAddress> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Some(ServerAddress::Tcp((address, port).into()));
    }
    // Names of containers may have an underscore.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=253).contains(&host.len())
        && host.bytes().all(plain)
        && host.starts_with(|first: char| first.is_ascii_alphanumeric());
    is_name.then(|| ServerAddress::Name(host.to_ascii_lowercase(), port))
}

/// A header that a map may name: none that frames the request, or says whom it is for.
fn header_name(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let ours = [header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION, header::EXPECT];
    (!ours.contains(&name) && !is_hop_by_hop(name.as_str().as_bytes())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            key: "24ab".into(),
            token: Some("c0ffee".into()),
            host: Some("127.0.0.1".into()),
            port: Some(8888),
            info: None,
        }
    }

    #[test]
    fn what_galaxy_writes_is_read() {
        let info =
            r#"{"requires_path_in_url": true, "requires_path_in_header_named": "X-RStudio-Root-Path"}"#;
        let entry = Entry::try_from(Row { info: Some(info.into()), ..row() }).unwrap();
        assert!(entry.wants_whole_path);
        assert_eq!(entry.path_header.unwrap(), "x-rstudio-root-path");
        assert_eq!(entry.server, ServerAddress::Tcp(([127, 0, 0, 1], 8888).into()));
        for info in [
            None,
            Some(""),
            Some("null"),
            Some("{}"),
            Some(r#"{"requires_path_in_url": null, "requires_path_in_header_named": null, "other": 1}"#),
            Some(r#"{"requires_path_in_url": false, "requires_path_in_header_named": ""}"#),
        ] {
            let entry = Entry::try_from(Row { info: info.map(Into::into), ..row() }).unwrap();
            assert!(!entry.wants_whole_path && entry.path_header.is_none(), "{info:?}");
        }
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        let server =
            |host: &str| Entry::try_from(Row { host: Some(host.into()), ..row() }).map(|entry| entry.server);
        assert_eq!(
            server("Node-1.example.org").unwrap(),
            ServerAddress::Name("node-1.example.org".into(), 8888)
        );
        assert_eq!(server("gxit_1").unwrap(), ServerAddress::Name("gxit_1".into(), 8888));
        assert_eq!(server("::1").unwrap(), server("[::1]").unwrap());
        for host in ["", "a b", "unix:/run/docker.sock", "user@host", "host:80", "/etc", "-x", "a\nb"] {
            assert!(server(host).is_err(), "{host}");
        }
    }

    #[test]
    fn entries_that_lead_nowhere_are_refused() {
        for row in [
            Row { key: String::new(), ..row() },
            Row { key: "a/b".into(), ..row() },
            Row { token: None, ..row() },
            Row { token: Some(String::new()), ..row() },
            Row { token: Some("a.b".into()), ..row() },
            Row { host: None, ..row() },
            Row { port: None, ..row() },
            Row { port: Some(0), ..row() },
            Row { port: Some(65536), ..row() },
            Row { info: Some("{".into()), ..row() },
            Row { info: Some(r#"{"requires_path_in_header_named": "Host"}"#.into()), ..row() },
            Row { info: Some(r#"{"requires_path_in_header_named": "a b"}"#.into()), ..row() },
        ] {
            assert!(Entry::try_from(row.clone()).is_err(), "{row:?}");
        }
    }
}
