//! Suggestions for unknown words.

use crate::config::diagnostic::{Problem, all_of, show};

use super::{Keys, tree};

/// Directives of nginx, and what to write instead.
const NGINX: [(&str, &str); 31] = [
    ("access_log", "`access` in `[log]`"),
    ("add_header", "`headers = { Name = \"value\" }`"),
    ("alias", "`files = \"/dir\"` in a route"),
    ("client_max_body_size", "`max_body`"),
    ("default_server", "a `[[site]]` without `host`"),
    ("error_log", "`level` and `format` in `[log]`"),
    ("keepalive_requests", "nothing: connections live as long as `keepalive_timeout` allows"),
    ("least_conn", "`balance = \"least_conn\"` in `[upstream.NAME]`"),
    ("limit_conn", "`connections` in `[limit.NAME]`, and `limits = [\"NAME\"]` in `[[site]]`"),
    ("limit_conn_zone", "`key` in `[limit.NAME]`"),
    ("limit_req", "`limits = [\"NAME\"]` in `[[site]]`, with `burst` in `[limit.NAME]`"),
    ("limit_req_zone", "`key` and `rate` in `[limit.NAME]`"),
    ("location", "`\"/path\" = { … }` in `[site.routes]`"),
    ("max_conns", "`max_requests`"),
    ("max_fails", "nothing: a failed server is checked and used again as soon as it responds"),
    ("fail_timeout", "nothing: a failed server is checked and used again as soon as it responds"),
    ("pid", "`pid_file` in `[server]`"),
    ("proxy_connect_timeout", "`connect_timeout` in `[upstream.NAME]`"),
    ("proxy_pass", "`proxy = \"NAME\"` in a route, with the servers in `[upstream.NAME]`"),
    ("proxy_read_timeout", "`read_timeout`"),
    ("proxy_redirect", "`path`, whose rule maps redirects back, or `rewrite_location = false`"),
    ("proxy_send_timeout", "`send_timeout`"),
    ("proxy_set_header", "`request_headers = { Name = \"value\" }`"),
    ("return", "`answer = 404` or `redirect = \"https://…\"` in a route"),
    ("rewrite", "`redirect = \"https://…{uri}\"` or `path = \"/…{rest}\"` in a route"),
    ("root", "`files = \"/dir\"` in a route (as nginx's `alias`: the prefix is replaced)"),
    ("server_name", "`host` in `[[site]]`"),
    ("set_real_ip_from", "`trust` in `[[listen]]`"),
    ("upstreams", "`[upstream.NAME]`"),
    ("worker_connections", "`max_connections` in `[server]`"),
    ("worker_processes", "`threads` in `[server]`"),
];

/// The word of `known` that `word` is most likely a misspelling of.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(word, known).first().copied()
}

/// The words of `known` that `word` may be a misspelling of, the nearest first.
pub fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // A very long word is no misspelling, and comparing it would be slow.
    if word.len() > 64 {
        return Vec::new();
    }
    let word = word.to_lowercase().replace('-', "_");
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &known.to_lowercase()), known))
        .filter(|(distance, known)| {
            let part = known.starts_with(&word) || word.starts_with(known) || known.ends_with(&word);
            *distance <= allowed || (word.len() >= 4 && part)
        })
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().map(|(_, known)| known).collect()
}

/// Replacement for a directive of nginx.
pub fn instead_of_nginx(word: &str) -> Option<&'static str> {
    NGINX.iter().find(|(nginx, _)| *nginx == word).map(|(_, instead)| *instead)
}

/// Reports that `key` is none of `keys`, with a suggestion.
pub fn unknown_key(key: &str, keys: &Keys) -> Problem {
    let title = format!("unknown key {} in {}", show(key), keys.title);
    if let Some(instead) = instead_of_nginx(key) {
        return Problem::new(title, "a directive of nginx").help(format!("write {instead}"));
    }
    let elsewhere: Vec<&str> = tree::tables()
        .iter()
        .map(|place| place.keys)
        .filter(|other| other.find(key).is_some() || other.later.contains(&key))
        .map(|other| other.title)
        .collect();
    let somewhere = !elsewhere.is_empty();
    let names = keys.names();
    let near = closest(key, names.iter().chain(keys.later).copied());
    let elsewhere = format!("`{key}` is a key of {}", elsewhere.join(" and of "));
    match (near, somewhere) {
        (Some(near), false) => Problem::new(title, "unknown").help(format!("did you mean `{near}`?")),
        (Some(near), true) => {
            Problem::new(title, "not here").help(format!("did you mean `{near}`? {elsewhere}"))
        }
        (None, true) => Problem::new(title, "not here").help(elsewhere),
        (None, false) => {
            Problem::new(title, "unknown").help(format!("the keys of {} are {}", keys.title, all_of(&names)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let known = ["host", "headers", "max_body"];
        assert_eq!(closest("hots", known), Some("host"));
        assert_eq!(closest("hosts", known), Some("host"));
        assert_eq!(closest("max-body", known), Some("max_body"));
        assert_eq!(closest("header", known), Some("headers"));
        assert_eq!(closest("colour", known), None);
        assert_eq!(closest("", known), None);
    }
}
