//! `allow` and `deny` of a site or a route: access by client address.

use std::net::IpAddr;

use super::{
    diagnostic::Problem,
    keys::{Group, Key, Optional, Shape, Unset, kind::Of},
    networks::{self, NETWORK_LIST, Networks},
    print::{Pairs, strings},
    read::{Table, Value},
};

/// Access rules of a site or a route, by client address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The only networks that are admitted; `None` admits all.
    pub allow: Option<Networks>,
    /// Networks that are refused, also those that `allow` admits.
    pub deny: Networks,
}

impl Access {
    /// Whether a client with this address is admitted.
    pub fn permits(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }
}

/// Keys of sites and routes.
pub const KEYS: Group = &[&ALLOW, &DENY];

static ALLOW: Optional<Of<Option<Networks>>> = Key {
    name: "allow",
    kind: Of {
        shape: || Shape::Either(vec![Shape::Words(vec!["all"]), networks::shape()]),
        read: allow,
        show: |allow| allow.as_ref().map_or_else(|| "\"all\"".into(), |networks| strings(networks.written())),
    },
    default: Unset("everybody, or those of the site"),
    about: "The only clients that are admitted; others get 403. On a route it replaces the list of the site, and \
            `\"all\"` removes it. Behind another proxy, list that proxy in `trust`, or its address counts as the \
            client's.",
    example: "allow = [\"10.0.0.0/8\", \"2001:db8::/32\"]",
};

static DENY: Optional<Of<Networks>> = Key {
    name: "deny",
    kind: Of { read: deny, ..NETWORK_LIST },
    default: Unset("nobody, or those of the site"),
    about: "Clients that get 403, also those that `allow` admits. On a route it replaces the list of the site, and \
            `[]` removes it. Files of networks are read at each reload, one network a line.",
    example: "deny = [\"198.51.100.0/24\", \"/etc/bowshock/tor-exits.txt\"]",
};

/// Reads both keys; an absent key is inherited from `above`.
pub fn read(table: &mut Table<'_>, above: &Access) -> Access {
    Access {
        allow: table.optional(&ALLOW).unwrap_or_else(|| above.allow.clone()),
        deny: table.optional(&DENY).unwrap_or_else(|| above.deny.clone()),
    }
}

/// The keys with their values.
pub fn pairs(access: &Access) -> Pairs {
    let deny = access.deny.written().next().is_some().then(|| strings(access.deny.written()));
    let allow = access.allow.as_ref().map(|allow| strings(allow.written()));
    Pairs::default().written_if(&ALLOW, allow).written_if(&DENY, deny)
}

/// Reads `allow`; `Some(None)` admits all.
fn allow(value: Value<'_>) -> Option<Option<Networks>> {
    match value.as_str() {
        Some("all") => return Some(None),
        // nginx takes a single address or network without a list.
        Some(_) => return value.expected("a list of networks, or \"all\"", "allow = [\"10.0.0.0/8\"]"),
        None => {}
    }
    if value.as_list().is_some_and(|items| items.is_empty()) {
        let problem = Problem::new("`allow` allows nobody", "empty");
        value.error(
            problem.help("write `allow = \"all\"` for everybody; for nobody write `answer = 403` in a route"),
        );
        return None;
    }
    let networks = networks::read(value)?;
    if networks.is_empty() {
        let problem = Problem::new("`allow` allows nobody", "no network in it");
        value.context.warn(value.span(), problem.help("every request gets 403"));
    }
    Some(Some(networks))
}

fn deny(value: Value<'_>) -> Option<Networks> {
    if value.as_str() == Some("all") {
        let problem = Problem::new("`deny` is a list of networks", "would admit nobody");
        value.error(problem.help("to admit only some networks write `allow = [\"10.0.0.0/8\"]` alone"));
        return None;
    }
    networks::read(value)
}
