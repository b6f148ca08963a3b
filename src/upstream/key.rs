//! What tells a request from others, for `balance = "hash:…"`.

use http::header;

use super::balance;
use crate::{
    client::Client,
    config::{Balance, HashKey},
    listen::Lines,
};

/// The key of a request; `None` when it has none, or none is asked for.
pub(crate) fn of(balance: &Balance, request: &Lines, client: &Client) -> Option<u64> {
    let Balance::Hash(key) = balance else { return None };
    match key {
        HashKey::Address => Some(balance::hash(client.address.to_string().as_bytes())),
        HashKey::Header(name) => request.get(name).map(balance::hash),
        HashKey::Cookie(name) => cookies(request, name).next().map(balance::hash),
    }
}

/// The values of a cookie (RFC 6265 §5.4), nearly always one.
pub(crate) fn cookies<'a>(request: &'a Lines, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = request.values(&header::COOKIE);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let request = Lines::of(&[("cookie", "xgalaxysession=1; a=b"), ("cookie", "c=d;galaxysession=me=2")]);
        let cookie = |name| cookies(&request, name).next();
        assert_eq!(cookie("galaxysession"), Some(b"me=2".as_slice()));
        assert_eq!(cookie("a"), Some(b"b".as_slice()));
        assert_eq!(cookie("galaxy"), None);
    }
}
