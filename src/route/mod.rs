//! Route lookup by host and path, with nginx's precedence: exact, longest prefix, then regexes in the order of the
//! file unless the prefix says `^~`.

mod hosts;
mod path;

use std::collections::HashMap;

use regex::Regex;

pub use hosts::HostMap;
pub(crate) use hosts::host_without_port;
pub(crate) use path::alternative_readings;
pub use path::{BadPath, normalize, normalize_bytes};

use crate::config::PathPattern;

/// Lookup table by host or path. Its keys come from the configuration, so no client can choose them to collide, which
/// the slower hasher of the standard library protects from.
type Map<T> = HashMap<String, T, foldhash::fast::RandomState>;

/// Routes of one site, arranged for lookup. Routes are identified by their index.
#[derive(Debug, Default)]
pub struct Routes {
    exact: Map<usize>,
    prefixes: Map<Prefix>,
    regexes: Vec<(Regex, usize)>,
}

#[derive(Debug)]
struct Prefix {
    route: usize,
    before_regex: bool,
}

/// Route found for a path, with the remainder or captures of the path.
#[derive(Debug)]
pub struct RouteMatch<'p> {
    /// Index of the route.
    pub route: usize,
    /// Kind of match.
    pub by: PathMatch<'p>,
}

/// Kind of match.
#[derive(Debug)]
pub enum PathMatch<'p> {
    /// The whole path.
    Exact,
    /// A prefix; the rest of the path, with its leading slash or empty.
    Prefix(&'p str),
    /// A regex, with its captures.
    Regex(regex::Captures<'p>),
}

impl Routes {
    /// Arranges `patterns`, whose indices identify the routes.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a PathPattern>) -> Self {
        let mut routes = Self::default();
        for (route, pattern) in patterns.into_iter().enumerate() {
            match pattern {
                PathPattern::Exact(path) => {
                    routes.exact.insert(path.clone(), route);
                }
                PathPattern::Prefix { path, before_regex } => {
                    let path = path.trim_end_matches('/').to_owned();
                    routes.prefixes.insert(path, Prefix { route, before_regex: *before_regex });
                }
                PathPattern::Regex(regex) => routes.regexes.push((regex.clone(), route)),
            }
        }
        routes
    }

    /// The route for a normalized path.
    pub fn find<'p>(&self, path: &'p str) -> Option<RouteMatch<'p>> {
        if let Some(route) = self.exact.get(path) {
            return Some(RouteMatch { route: *route, by: PathMatch::Exact });
        }
        let prefix = self.longest_prefix(path);
        if !prefix.is_some_and(|(prefix, _)| prefix.before_regex) {
            // Most regexes do not match, and `is_match` is cheaper than `captures`.
            let matched = self.regexes.iter().find(|(regex, _)| regex.is_match(path));
            if let Some((regex, route)) = matched
                && let Some(captures) = regex.captures(path)
            {
                return Some(RouteMatch { route: *route, by: PathMatch::Regex(captures) });
            }
        }
        prefix.map(|(prefix, rest)| RouteMatch { route: prefix.route, by: PathMatch::Prefix(rest) })
    }

    /// Looks up the path and each of its parents, longest first: one lookup per segment, however many routes.
    fn longest_prefix<'p>(&self, path: &'p str) -> Option<(&Prefix, &'p str)> {
        let mut end = path.len();
        loop {
            if let Some(prefix) = self.prefixes.get(&path[..end]) {
                return Some((prefix, &path[end..]));
            }
            if end == 0 {
                return None;
            }
            end = memchr::memrchr(b'/', &path.as_bytes()[..end])?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(path: &str) -> PathPattern {
        PathPattern::Prefix { path: path.into(), before_regex: false }
    }

    fn regex(regex: &str) -> PathPattern {
        PathPattern::Regex(Regex::new(regex).unwrap())
    }

    #[track_caller]
    fn finds(routes: &[PathPattern], path: &str) -> Option<usize> {
        Routes::new(routes).find(path).map(|found| found.route)
    }

    #[test]
    fn exact_goes_before_prefix_and_the_longest_prefix_wins() {
        let routes =
            [prefix("/"), prefix("/static"), prefix("/static/style"), PathPattern::Exact("/static".into())];
        assert_eq!(finds(&routes, "/x"), Some(0));
        assert_eq!(finds(&routes, "/static/x"), Some(1));
        assert_eq!(finds(&routes, "/static/style/x"), Some(2));
        assert_eq!(finds(&routes, "/static"), Some(3));
        assert_eq!(finds(&routes[1..], "/x"), None);
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let routes = [prefix("/static")];
        assert_eq!(finds(&routes, "/staticky"), None);
        assert_eq!(finds(&routes, "/static/"), Some(0));
        let found = Routes::new(&routes).find("/static/a/b").map(|found| match found.by {
            PathMatch::Prefix(rest) => rest.to_owned(),
            _ => panic!("not a prefix"),
        });
        assert_eq!(found.as_deref(), Some("/a/b"));
    }

    #[test]
    fn regexes_go_in_order_before_plain_prefixes_but_not_before_caret_ones() {
        let caret = PathPattern::Prefix { path: "/api".into(), before_regex: true };
        let routes = [prefix("/"), regex(r"\.js$"), regex(r"^/a"), caret, prefix("/plugins")];
        assert_eq!(finds(&routes, "/a.js"), Some(1));
        assert_eq!(finds(&routes, "/abc"), Some(2));
        assert_eq!(finds(&routes, "/api/x.js"), Some(3));
        assert_eq!(finds(&routes, "/plugins/x.js"), Some(1));
        assert_eq!(finds(&routes, "/plugins/x.css"), Some(4));
    }
}
