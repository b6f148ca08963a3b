//! The host and port that a request names (RFC 9110 §7.2).

use std::net::Ipv6Addr;

/// A name or an address, and a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority<'a> {
    host: &'a [u8],
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads one; `None` for what is neither a name as DNS has them, nor an address.
    ///
    /// RFC 3986 §3.2.2 would take more: percent-encoding, `,` and `;`. No such name can be resolved, and what reads
    /// them in another way than we do is easily found.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        let end = match text {
            [b'[', ..] => text.iter().position(|byte| *byte == b']')? + 1,
            _ => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(end);
        let is_host = match host {
            [b'[', address @ .., b']'] => std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().is_ok(),
            name => !name.is_empty() && name.iter().all(|byte| is_name(*byte)),
        };
        let port = match port {
            [] | [b':'] => None,
            [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
                Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        is_host.then_some(Self { host, port })
    }

    /// Whether both are the same, where this port is meant when none is said (RFC 9110 §4.2.3).
    pub(crate) fn is(self, other: Self, usual: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(usual) == other.port.unwrap_or(usual)
    }
}

fn is_name(byte: u8) -> bool {
    const NAME: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] =
                (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
            byte += 1;
        }
        table
    };
    NAME[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_may_have_a_port() {
        for text in ["a", "a.example.", "a_b", "A-1:80", "127.0.0.1:8080", "[::1]", "[2001:DB8::1]:443", "a:"]
        {
            assert!(Authority::read(text.as_bytes()).is_some(), "{text}");
        }
        for text in [
            "",
            ":80",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:65536",
            "a:000080",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "u@a",
            "a%41",
            "\u{e9}",
            "[::1",
            "[::1]a",
            "[a]",
            "[::1%25lo]",
            "[]",
            "::1",
            "a]",
            "a[",
        ] {
            assert!(Authority::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn case_and_the_usual_port_make_no_difference() {
        let is = |one: &'static str, other: &'static str| {
            let read = |text: &'static str| Authority::read(text.as_bytes()).unwrap();
            read(one).is(read(other), 80)
        };
        assert!(is("a", "A") && is("a:80", "a") && is("a:", "a:080") && is("a:8080", "a:8080"));
        assert!(!is("a", "b") && !is("a", "a.") && !is("a:8080", "a"));
    }
}
