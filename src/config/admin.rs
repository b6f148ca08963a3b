//! `[admin]`: the listener of the admin endpoints.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    diagnostic::{Problem, show as shown},
    host::{HostPattern, host},
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{Of, Shaped},
    },
    listen::{Address, SOCKET, Taken, address_only, mode, mode_key, show_mode, socket},
    print::{Out, Pairs, quote, strings},
    read::Value,
};

/// `[admin]`
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Address of `/metrics`, `/status.json` and `/health`.
    pub listen: Address,
    /// Permission bits of a unix socket; `None` leaves them to the umask.
    pub mode: Option<u32>,
    /// Names accepted in `Host` beside IP addresses and `localhost`, in lower case.
    pub hosts: Vec<String>,
}

/// The keys of `[admin]`.
pub static KEYS: Keys = Keys {
    title: "`[admin]`",
    place: "[admin]\n…",
    about: "Listener of `/metrics`, `/status.json` and `/health`, and of the commands `status`, `reload`, `drain` \
            and `resume`.",
    groups: &[&[&LISTEN, &MODE, &HOSTS]],
    later: &[],
};

static LISTEN: Defaulted<Of<Address>> = Key {
    name: "listen",
    kind: Of {
        shape: || Shape::Text(SOCKET),
        read: address_only,
        show: |address| quote(&address.to_string()),
    },
    default: Is(|| Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9180)))),
    about: "IP address with port, or unix socket. Over TCP every user of the machine can reach it.",
    example: "listen = \"unix:/run/bowshock/admin.sock\"",
};

static MODE: Optional<Shaped> = mode_key("listen = \"unix:/run/bowshock/admin.sock\"\nmode = \"0660\"");

static HOSTS: Optional<Of<Vec<String>>> = Key {
    name: "hosts",
    kind: Of { shape: || Shape::Text(HOST_NAME).list(), read: hosts, show: |hosts| strings(hosts) },
    default: Unset("none"),
    about: "Names accepted in Host over TCP, beside `localhost` and IP addresses. Other names are refused as a \
            protection against DNS rebinding.",
    example: "hosts = [\"bowshock.example.org\"]",
};

const HOST_NAME: TextShape = TextShape { what: "host name", pattern: "" };

/// The settings of a file without `[admin]`.
pub fn default() -> Admin {
    Admin { listen: (LISTEN.default.0)(), mode: None, hosts: Vec::new() }
}

/// Reads `[admin]`.
pub fn read(value: Value<'_>, taken: &mut Taken) -> Option<Admin> {
    let mut table = value.table(&KEYS)?;
    let listen = table.take(&LISTEN).and_then(|value| socket(value, taken));
    let listen = listen.unwrap_or_else(LISTEN.default.0);
    let mode = mode(table.take(&MODE), matches!(listen, Address::Unix(_)));
    let hosts = table.optional(&HOSTS).unwrap_or_default();
    table.finish();
    Some(Admin { listen, mode, hosts })
}

/// Writes `[admin]`.
pub fn show(out: &mut Out, admin: &Admin) {
    let pairs = Pairs::default()
        .key(&LISTEN, &admin.listen)
        .written_if(&MODE, admin.mode.map(show_mode))
        .optional(&HOSTS, Some(&admin.hosts).filter(|hosts| !hosts.is_empty()));
    out.table("[admin]", &pairs);
}

/// Reads `admin.hosts`: names accepted in `Host`.
fn hosts(value: Value<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for item in value.list()? {
        let Some(text) = item.string() else { continue };
        match host(text, &item.context.regexes) {
            Ok(HostPattern::Exact(name)) => names.push(name),
            Ok(HostPattern::Suffix(_) | HostPattern::Regex(_)) => {
                let problem = Problem::new(
                    format!("{} is not a host name", shown(text)),
                    "only whole names are taken here",
                );
                item.error(problem.help(format!("write for example `{}`", value.example())));
            }
            Err(problem) => item.error(problem),
        }
    }
    Some(names)
}
