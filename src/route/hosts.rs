//! Host lookup: from the name in `Host` to a site. Exact names go first, then the longest `*.suffix`, regexes in
//! order, and the default site.

use std::borrow::Cow;

use regex::Regex;

use super::Map;
use crate::config::HostPattern;

/// Names of all sites, arranged for lookup. Sites are identified by their index.
#[derive(Debug, Default)]
pub struct HostMap {
    exact: Map<usize>,
    suffixes: Map<usize>,
    regexes: Vec<(Regex, usize)>,
    default: Option<usize>,
}

impl HostMap {
    /// Arranges the names of each site; a site without names is the default.
    pub fn new<'a>(sites: impl IntoIterator<Item = &'a [HostPattern]>) -> Self {
        let mut hosts = Self::default();
        for (site, names) in sites.into_iter().enumerate() {
            if names.is_empty() {
                hosts.default.get_or_insert(site);
            }
            for name in names {
                match name {
                    HostPattern::Exact(name) => {
                        hosts.exact.insert(name.clone(), site);
                    }
                    HostPattern::Suffix(suffix) => {
                        hosts.suffixes.insert(suffix.clone(), site);
                    }
                    HostPattern::Regex(regex) => hosts.regexes.push((regex.clone(), site)),
                }
            }
        }
        hosts
    }

    /// Index of the site for the value of a `Host` header.
    pub fn find(&self, host: &str) -> Option<usize> {
        let name = lower_case(host_without_port(host));
        if let Some(site) = self.exact.get(&*name) {
            return Some(*site);
        }
        if self.suffixes.is_empty() && self.regexes.is_empty() {
            return self.default;
        }
        let mut suffixes =
            name.char_indices().filter(|(_, letter)| *letter == '.').map(|(at, _)| &name[at..]);
        suffixes
            .find_map(|suffix| self.suffixes.get(suffix).copied())
            .or_else(|| self.regexes.iter().find(|(regex, _)| regex.is_match(&name)).map(|(_, site)| *site))
            .or(self.default)
    }
}

impl HostMap {
    /// Captures of the expression that the value of a `Host` header matches, where no other name goes before it.
    pub fn captures(&self, host: &str) -> Vec<(Box<str>, Box<str>)> {
        let name = lower_case(host_without_port(host));
        let site = self.find(host);
        let matched = self.regexes.iter().filter(|(_, of)| Some(*of) == site);
        let Some((regex, captures)) =
            matched.filter_map(|(regex, _)| Some((regex, regex.captures(&name)?))).next()
        else {
            return Vec::new();
        };
        let named = regex.capture_names().flatten();
        named.filter_map(|name| Some((name.into(), captures.name(name)?.as_str().into()))).collect()
    }
}

/// Usually borrows, as browsers send names in lower case.
fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

/// The name in a `Host` header without the port and without the final dot of a fully qualified name.
pub(crate) fn host_without_port(host: &str) -> &str {
    let end = match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(bracket) => bracket + 2,
        None => memchr::memchr(b':', host.as_bytes()).unwrap_or(host.len()),
    };
    host[..end].trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_precise_name_wins() {
        let sites = [
            vec![HostPattern::Suffix(".example.org".into())],
            vec![HostPattern::Exact("galaxy.example.org".into())],
            vec![HostPattern::Suffix(".ep.example.org".into())],
            vec![HostPattern::Regex(Regex::new(r"^g\d+\.net$").unwrap())],
            vec![],
        ];
        let hosts = HostMap::new(sites.iter().map(Vec::as_slice));
        for (host, site) in [
            ("galaxy.example.org", 1),
            ("GALAXY.example.org:8080", 1),
            ("galaxy.example.org.", 1),
            ("x.example.org", 0),
            ("a.b.example.org", 0),
            ("x.ep.example.org", 2),
            ("example.org", 4),
            ("g7.net", 3),
            ("[::1]:80", 4),
            ("", 4),
        ] {
            assert_eq!(hosts.find(host), Some(site), "{host}");
        }
        assert_eq!(HostMap::new(sites[..4].iter().map(Vec::as_slice)).find("other"), None);
    }
}
