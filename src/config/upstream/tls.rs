//! `upstream.tls`: verification of servers over TLS.

use std::path::{Path, PathBuf};

use crate::config::{
    diagnostic::Problem,
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{self, BOOLEAN, Of},
    },
    paths,
    print::{Pairs, quote},
    read::{Context, Table, Value},
};

/// `upstream.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Name for SNI and certificate verification, in place of the server's own.
    pub server_name: Option<String>,
    /// CA certificates that verify the servers, in PEM; `None` takes those of the system.
    pub ca: Option<PathBuf>,
    /// Whether certificates are verified.
    pub verify: bool,
}

/// The keys of `tls` of an upstream.
pub static KEYS: Keys = Keys {
    title: "`tls` of `[upstream.NAME]`",
    place: "[upstream.galaxy]\nservers = [\"worker1.example.org:443\"]\nprotocol = \"https\"\ntls = { … }",
    about: "Verification of servers with `protocol = \"https\"`.",
    groups: &[&[&SERVER_NAME, &CA, &VERIFY]],
    later: &[],
};

static SERVER_NAME: Optional<Of<String>> = Key {
    name: "server_name",
    kind: Of {
        shape: || Shape::Text(TextShape { what: "host name or IP address", pattern: "" }),
        read: server_name,
        show: |name| quote(name),
    },
    default: Unset("that of its address"),
    about: "Name for SNI, which the certificates of the servers must have.",
    example: "server_name = \"galaxy.example.org\"",
};

static CA: Optional<kind::Path> = Key {
    name: "ca",
    kind: kind::Path { home: "/etc/ssl/galaxy", check: need_authorities },
    default: Unset("those of the system"),
    about: "CA certificates (PEM) that verify the servers, or the self-signed certificate of a server.",
    example: "ca = \"/etc/ssl/galaxy/workers.pem\"",
};

static VERIFY: Defaulted<Of<bool>> = Key {
    name: "verify",
    kind: BOOLEAN,
    default: Is(|| true),
    about: "Whether the certificates of the servers are verified. Without verification anybody on the network path \
            can read and change requests.",
    example: "verify = false",
};

/// Reads `tls` of an upstream.
pub fn read(value: Value<'_>) -> Option<UpstreamTls> {
    value.table(&KEYS).map(read_table)
}

/// The settings of an upstream with `protocol = "https"` and without `tls`.
pub fn absent(context: &Context<'_>) -> UpstreamTls {
    read_table(Table::absent(context, &KEYS))
}

fn read_table(mut table: Table<'_>) -> UpstreamTls {
    let tls = UpstreamTls {
        server_name: table.optional(&SERVER_NAME),
        ca: table.optional(&CA),
        verify: table.read(&VERIFY),
    };
    table.finish();
    tls
}

/// The keys with their values.
pub fn pairs(tls: &UpstreamTls) -> Pairs {
    Pairs::default()
        .optional(&SERVER_NAME, tls.server_name.as_ref())
        .optional(&CA, tls.ca.as_ref())
        .key(&VERIFY, &tls.verify)
}

fn need_authorities(value: Value<'_>, path: &Path) {
    paths::need_something(value, path);
    paths::need_authorities(value, path);
}

fn server_name(value: Value<'_>) -> Option<String> {
    let name = value.string()?;
    if rustls::pki_types::ServerName::try_from(name).is_err() {
        value.error(Problem::new(
            format!("{name:?} is not a name for SNI"),
            "a name or an address, without a port",
        ));
        return None;
    }
    Some(name.to_owned())
}
