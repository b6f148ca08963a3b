//! `upstream.balance`: the load balancing policy.

use http::HeaderName;

use crate::config::{
    diagnostic::{Problem, show},
    headers,
    keys::{
        Shape, TextShape,
        kind::{Kind, Of, Words},
    },
    print::quote,
    read::Value,
};

/// `upstream.balance`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// The server with the fewest requests in progress, relative to its weight.
    LeastConn,
    /// Each server in turn, by weight.
    RoundRobin,
    /// The less loaded of two servers taken at random by weight.
    Random,
    /// Consistent hashing: requests with the same key go to the same server as long as it is present.
    Hash(HashKey),
}

/// Key of `balance = "hash:KEY"`. A request without it goes to the least loaded server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Address,
    /// A cookie.
    Cookie(String),
    /// A header.
    Header(HeaderName),
}

/// The kind of `balance`.
pub const KIND: Of<Balance> = Of {
    shape: || Shape::Either(vec![Words(&BALANCES).shape(), Shape::Text(HASH)]),
    read: balance,
    show: |balance| quote(&balance_word(balance)),
};

const HASH: TextShape = TextShape {
    what: "`\"hash:address\"`, `\"hash:cookie:NAME\"` or `\"hash:header:NAME\"`",
    pattern: "^hash:(address|(cookie|header):.+)$",
};

const BALANCES: [(&str, Balance); 3] =
    [("least_conn", Balance::LeastConn), ("round_robin", Balance::RoundRobin), ("random", Balance::Random)];

/// The policy as written in a file.
fn balance_word(balance: &Balance) -> String {
    match balance {
        Balance::Hash(HashKey::Address) => "hash:address".into(),
        Balance::Hash(HashKey::Cookie(name)) => format!("hash:cookie:{name}"),
        Balance::Hash(HashKey::Header(name)) => format!("hash:header:{name}"),
        plain => {
            BALANCES.iter().find(|(_, one)| one == plain).map_or_else(String::new, |(word, _)| (*word).into())
        }
    }
}

fn balance(value: Value<'_>) -> Option<Balance> {
    let hash = value.as_str().and_then(|text| text.strip_prefix("hash:"));
    match hash {
        Some(key) => value.parse(key, hash_key).map(Balance::Hash),
        None => value.choice(&BALANCES, &[]),
    }
}

fn hash_key(text: &str) -> Result<HashKey, Problem> {
    let unknown = |label: &str| {
        Problem::new(format!("{} is not a key of requests", show(text)), label)
            .help("write `hash:address`, `hash:cookie:NAME` or `hash:header:NAME`")
    };
    match text.split_once(':') {
        None if text == "address" => Ok(HashKey::Address),
        Some(("cookie", name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(HashKey::Cookie(name.into())),
            Err(_) => Err(unknown("not the name of a cookie")),
        },
        Some(("header", name)) => headers::name(name).map(HashKey::Header),
        _ => Err(unknown("unknown")),
    }
}
