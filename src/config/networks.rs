//! Lists of networks: written in place, or in files that other programs keep up to date.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    diagnostic::{Problem, show},
    keys::{Shape, TextShape, kind::Of},
    paths,
    print::strings,
    read::Value,
};

/// List of networks, for lookup by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Arc<List>);

#[derive(Debug, Default, PartialEq, Eq)]
struct List {
    /// The entries as written in the configuration.
    written: Vec<Entry>,
    /// First and last addresses of ranges that neither touch nor overlap, in order.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// An entry of a list of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Network(IpNet),
    /// A file with one network a line.
    File(PathBuf),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Networks {
    fn new(written: Vec<Entry>, networks: impl Iterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (network.network().to_canonical(), network.broadcast().to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((u32::from(first), u32::from(last))),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((u128::from(first), u128::from(last))),
                // Shorter than the IPv4-mapped prefix: no client has such an address.
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
        }
        Self(Arc::new(List { written, v4: joined(v4), v6: joined(v6) }))
    }

    /// Whether an address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.0.v4, u32::from(address)),
            IpAddr::V6(address) => within(&self.0.v6, u128::from(address)),
        }
    }

    /// Whether the list contains no network.
    pub fn is_empty(&self) -> bool {
        self.0.v4.is_empty() && self.0.v6.is_empty()
    }

    /// The entries as written in the configuration.
    pub fn written(&self) -> impl Iterator<Item = String> {
        self.0.written.iter().map(Entry::to_string)
    }
}

/// Sorts ranges and merges those that touch, so that very long lists are searched in a few steps.
fn joined<T: Copy + Ord + Next>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined.shrink_to_fit();
    joined
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && ranges[behind - 1].1 >= address
}

trait Next: Sized {
    fn next(self) -> Option<Self>;
}

impl Next for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Next for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Files of networks read for one configuration, cached because many sites may name the same file.
#[derive(Default)]
pub struct NetworkFiles(RefCell<HashMap<PathBuf, Arc<[IpNet]>>>);

/// Most wrong lines of a file that are reported; the rest is only counted.
const MOST_LINES: usize = 5;

/// The kind of a list of networks.
pub const NETWORK_LIST: Of<Networks> = Of { shape, read, show: |networks| strings(networks.written()) };

/// The form of a list of networks.
pub fn shape() -> Shape {
    Shape::Text(NETWORK).list()
}

const NETWORK: TextShape = TextShape {
    what: "IP address, network (`\"10.0.0.0/8\"`) or path of a file with one network a line",
    pattern: "^(/.*|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$",
};

/// Reads a list of networks and of files with networks.
pub fn read(value: Value<'_>) -> Option<Networks> {
    let (mut written, mut networks) = (Vec::new(), Vec::new());
    for item in value.list()? {
        let Some(text) = item.string() else { continue };
        if text.starts_with('/') {
            let Some(path) = item.parse(text, |text| paths::absolute(text, "/etc/bowshock")) else {
                continue;
            };
            networks.extend(file(item, &path).iter());
            written.push(Entry::File(path));
        } else if let Some(network) = network(item, text) {
            networks.push(network);
            written.push(Entry::Network(network));
        }
    }
    Some(Networks::new(written, networks.into_iter()))
}

fn network(value: Value<'_>, text: &str) -> Option<IpNet> {
    let Some(network) = parse(text) else {
        let problem = Problem::new(
            format!("{} is not a network", show(text)),
            "needs an IP address, a CIDR or the path of a file",
        );
        value.error(problem.help(
            "write for example `\"192.0.2.0/24\"`, `\"2001:db8::/32\"`, or `\"/etc/bowshock/networks.txt\"`",
        ));
        return None;
    };
    if network.trunc() != network {
        let problem = Problem::new(
            format!("`{network}` has bits set beyond its prefix"),
            format!("read as `{}`", network.trunc()),
        );
        let (whole, one) = (network.trunc(), network.addr());
        value.context.warn(
            value.span(),
            problem.help(format!("write `\"{whole}\"` for the network, or `\"{one}\"` for the one address")),
        );
    }
    Some(network.trunc())
}

fn parse(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The networks of a file. Wrong lines are noted.
fn file(value: Value<'_>, path: &Path) -> Arc<[IpNet]> {
    let files = &value.context.networks;
    if let Some(known) = files.0.borrow().get(path) {
        return Arc::clone(known);
    }
    let networks: Arc<[IpNet]> = match value.context.system.read(path) {
        Ok(text) => lines(value, path, &text).into(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let shown = show(&path.to_string_lossy());
            let problem = Problem::new(format!("{shown} cannot be used: {error}"), "not a list of networks");
            value.error(problem.help("it must be a file of text with one network a line"));
            Arc::default()
        }
        Err(error) => {
            paths::unusable(value, path, &error);
            Arc::default()
        }
    };
    files.0.borrow_mut().insert(path.into(), Arc::clone(&networks));
    networks
}

/// Reads one network a line; `#` and `;` begin comments, as in published blocklists.
fn lines(value: Value<'_>, path: &Path, text: &str) -> Vec<IpNet> {
    let (mut networks, mut wrong) = (Vec::new(), 0);
    for (number, line) in text.lines().enumerate() {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        if let Some(network) = parse(entry) {
            networks.push(network.trunc());
            continue;
        }
        wrong += 1;
        if wrong <= MOST_LINES {
            let place = format!("{}:{}", path.display(), number + 1);
            let problem = Problem::new(format!("{place}: {} is not a network", show(entry)), "in this file");
            value.error(problem.help(
                "write one network a line, for example `192.0.2.0/24` or `2001:db8::7`; `#` begins a comment",
            ));
        }
    }
    if wrong > MOST_LINES {
        let title = format!("{}: {} more lines are not networks", path.display(), wrong - MOST_LINES);
        value.error(Problem::new(title, "in this file"));
    }
    networks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(list: &[&str]) -> Networks {
        Networks::new(Vec::new(), list.iter().map(|text| parse(text).unwrap()))
    }

    #[test]
    fn ipv4_is_the_same_within_ipv6() {
        let list = networks(&["192.0.2.0/24", "::ffff:10.0.0.0/104", "2001:db8::/32"]);
        for inside in ["192.0.2.7", "::ffff:192.0.2.255", "10.255.0.1", "2001:db8::1"] {
            assert!(list.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["192.0.3.0", "::192.0.2.7", "11.0.0.0", "2001:db9::"] {
            assert!(!list.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(!networks(&["::/0"]).contains("192.0.2.7".parse().unwrap()));
        assert!(networks(&[]).is_empty() && !list.is_empty());
    }

    #[test]
    fn networks_that_touch_are_one() {
        let list = networks(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "255.255.255.255", "0.0.0.0/32"]);
        assert_eq!(list.0.v4.len(), 3);
        assert_eq!(networks(&["0.0.0.0/0", "1.2.3.4"]).0.v4, [(0, u32::MAX)]);
    }

    proptest! {
        #[test]
        fn an_address_is_inside_when_it_is_in_one_of_them(
            list in prop::collection::vec((0..64_u32, 26..=32_u8), 0..12),
            address in 0..80_u32,
        ) {
            let base = u32::from_be_bytes([192, 0, 2, 0]);
            let all: Vec<IpNet> = list
                .iter()
                .map(|(low, prefix)| IpNet::new(IpAddr::from((base + low).to_be_bytes()), *prefix).unwrap())
                .collect();
            let address = IpAddr::from((base + address).to_be_bytes());
            let set = Networks::new(Vec::new(), all.iter().map(IpNet::trunc));
            prop_assert_eq!(set.contains(address), all.iter().any(|network| network.contains(&address)));
        }
    }
}
