//! Hash key of a request, for `balance = "hash:…"`.

use super::balance;
use crate::{
    client::Client,
    config::{Balance, HashKey},
    message::{RawHeaders, cookies},
};

/// Key of a request; `None` if the upstream does not use `hash` or the request has no key.
pub(crate) fn of(balance: &Balance, request: &RawHeaders, client: &Client) -> Option<u64> {
    let Balance::Hash(key) = balance else { return None };
    match key {
        HashKey::Address => Some(balance::hash(client.address.to_string().as_bytes())),
        HashKey::Header(name) => request.get(name).map(balance::hash),
        HashKey::Cookie(name) => cookies(request, name).next().map(balance::hash),
    }
}
