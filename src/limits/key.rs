//! Key of a client for a limit: the first of the configured keys that its request has.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::{
    client::Client,
    config::LimitKey,
    message::{RequestHead, cookies, parameters},
    net::{client_prefix, site_prefix},
};

/// Hash of the key, randomized so that no client can find out or choose another's; `None` if the request has none of
/// the keys.
pub(crate) fn of(keys: &[LimitKey], request: &RequestHead, client: &Client, by: &RandomState) -> Option<u64> {
    keys.iter().find_map(|key| {
        let mut hasher = by.build_hasher();
        // The position is part of the hash: the same text in two places means two clients.
        key.hash(&mut hasher);
        match key {
            LimitKey::Header(name) => {
                // An empty value is skipped, so that it does not bypass the limit.
                let mut values = request.headers.values(name).map(<[u8]>::trim_ascii);
                hasher.write(values.find(|value| !value.is_empty())?);
            }
            LimitKey::Query(name) => {
                let mut values = parameters(request.target.query()?, name);
                hasher.write(&values.find(|value| !value.trim_ascii().is_empty())?);
            }
            LimitKey::Cookie(name) => {
                hasher.write(cookies(&request.headers, name).find(|value| !value.is_empty())?);
            }
            LimitKey::Address => client_prefix(client.address).hash(&mut hasher),
            LimitKey::Network => site_prefix(client.address).hash(&mut hasher),
            LimitKey::All => {}
        }
        Some(hasher.finish())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::message::{RawHeaders, RequestTarget};

    fn chain() -> Vec<LimitKey> {
        vec![
            LimitKey::Header(HeaderName::from_static("x-api-key")),
            LimitKey::Query("key".into()),
            LimitKey::Cookie("galaxysession".into()),
            LimitKey::Address,
        ]
    }

    /// Computes keys of requests with one hasher per test.
    struct Asked(RandomState);

    impl Asked {
        fn by(&self, keys: &[LimitKey], target: &str, fields: &[(&str, &str)], address: &str) -> Option<u64> {
            let request = RequestHead {
                target: RequestTarget::of(target),
                headers: RawHeaders::of(fields),
                ..RequestHead::default()
            };
            let client = Client::at(address.parse().unwrap());
            of(keys, &request, &client, &self.0)
        }
    }

    #[test]
    fn the_first_that_a_request_has_is_its_key() {
        let asked = Asked(RandomState::new());
        let key = |target: &str, fields: &[(&str, &str)]| asked.by(&chain(), target, fields, "192.0.2.1");
        let alone = key("/", &[]);
        assert!(alone.is_some());
        let by_header = key("/", &[("x-api-key", "one")]);
        assert_ne!(by_header, alone);
        assert_eq!(by_header, key("/?key=two", &[("x-api-key", "one"), ("cookie", "galaxysession=x")]));
        assert_ne!(by_header, key("/?key=one", &[]));
        assert_eq!(key("/?key=one", &[]), key("/?a=b&key=one", &[("cookie", "galaxysession=x")]));
        assert_ne!(key("/", &[("cookie", "galaxysession=x")]), key("/", &[("cookie", "galaxysession=y")]));
        assert_eq!(asked.by(&chain()[..3], "/", &[], "192.0.2.1"), None);
    }

    #[test]
    fn no_other_spelling_is_another_client() {
        let asked = Asked(RandomState::new());
        let key = |target: &str, fields: &[(&str, &str)]| asked.by(&chain(), target, fields, "192.0.2.1");
        let alone = key("/", &[]);
        for empty in ["", " ", "\t"] {
            assert_eq!(key("/", &[("x-api-key", empty)]), alone, "{empty:?}");
            assert_eq!(key("/", &[("cookie", &format!("galaxysession={empty}"))]), alone, "{empty:?}");
        }
        for target in ["/?key=", "/?key", "/?key=%20", "/?key=+", "/?akey=one", "/?"] {
            assert_eq!(key(target, &[]), alone, "{target}");
        }
        for target in ["/?key=a+b", "/?key=a%20b", "/?%6bey=a%20b", "/?key=&key=%61%20b"] {
            assert_eq!(key(target, &[]), key("/?key=a%20b", &[]), "{target}");
        }
        let one = key("/", &[("x-api-key", "one")]);
        assert_eq!(key("/", &[("x-api-key", ""), ("x-api-key", " one ")]), one);
        let session = key("/", &[("cookie", "galaxysession=s")]);
        assert_eq!(key("/", &[("cookie", "galaxysession=; galaxysession=s")]), session);
    }

    #[test]
    fn addresses_are_what_one_client_has() {
        let asked = Asked(RandomState::new());
        let by = |key: LimitKey, address: &str| asked.by(&[key], "/", &[], address);
        let address = |text: &str| by(LimitKey::Address, text);
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8::1"));
        let network = |text: &str| by(LimitKey::Network, text);
        assert_eq!(network("192.0.2.1"), network("192.0.2.200"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8:0:9::1"));
        assert_eq!(by(LimitKey::All, "192.0.2.1"), by(LimitKey::All, "2001:db8::1"));
        assert_ne!(address("192.0.2.0"), network("192.0.2.0"));
    }

    #[test]
    fn a_key_differs_from_process_to_process() {
        let (one, two) = (Asked(RandomState::new()), Asked(RandomState::new()));
        let key = |asked: &Asked| asked.by(&chain(), "/", &[("x-api-key", "secret")], "192.0.2.1");
        assert_ne!(key(&one), key(&two));
    }
}
