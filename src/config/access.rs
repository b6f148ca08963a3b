//! `allow` and `deny` of a site or a route: who may ask, by address.

use std::net::IpAddr;

use super::{
    diagnostic::Problem,
    networks::{self, Networks},
    read::{Table, Value},
};

/// Who may ask, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Where it is present, only these.
    pub allow: Option<Networks>,
    /// Not these, whatever `allow` says.
    pub deny: Networks,
}

impl Access {
    /// Whether a client with this address may ask.
    pub fn permits(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }
}

/// Reads both; one that is not there is as it is `above`.
pub fn read(table: &mut Table<'_>, above: &Access) -> Access {
    Access {
        allow: table.optional("allow", allow).unwrap_or_else(|| above.allow.clone()),
        deny: table.optional("deny", deny).unwrap_or_else(|| above.deny.clone()),
    }
}

/// `Some(None)` is everybody.
fn allow(value: Value<'_>) -> Option<Option<Networks>> {
    match value.as_str() {
        Some("all") => return Some(None),
        // As nginx writes it, with one address or network.
        Some(_) => return value.wanted("a list of networks, or \"all\"", "allow = [\"10.0.0.0/8\"]"),
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
        let problem = Problem::new("`deny` is a list of networks", "would leave nobody");
        value.error(problem.help("for only some networks write `allow = [\"10.0.0.0/8\"]` alone"));
        return None;
    }
    networks::read(value)
}
