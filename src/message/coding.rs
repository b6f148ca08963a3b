//! Codings of content, and which of them a client wants (RFC 9110 §12.5.3).

use crate::message::headers::{RawHeaders, text};
use http::{HeaderValue, header};

/// A coding of content (RFC 9110 §8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Every coding; the first is taken where a client wants several alike.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Suffix of the name of a precompressed file.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// Name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The value of `Content-Encoding`.
    pub fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

/// The place of the coding that the client likes best; `None` when that is the content as it is.
pub(crate) fn choose(request: &RawHeaders, available: impl Iterator<Item = Coding>) -> Option<usize> {
    AcceptEncoding::read(request)?.best(available)
}

/// `Accept-Encoding`, its weights in thousandths.
pub(crate) struct AcceptEncoding<'a>(Vec<(&'a str, u16)>);

impl<'a> AcceptEncoding<'a> {
    pub(crate) fn read(request: &'a RawHeaders) -> Option<Self> {
        let mut accepted = Vec::new();
        for value in request.values(&header::ACCEPT_ENCODING) {
            for item in text(value)?.split(',') {
                let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
                accepted.push((name.trim(), weight(parameters)));
            }
        }
        (!accepted.is_empty()).then_some(Self(accepted))
    }

    /// The place of the coding that is liked best, at least as much as the content as it is.
    pub(crate) fn best(&self, available: impl Iterator<Item = Coding>) -> Option<usize> {
        let best = available
            .enumerate()
            .map(|(place, coding)| (place, self.weight(coding.name()).unwrap_or(0)))
            // Of several that are liked alike, the first.
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.filter(|(_, weight)| *weight > 0 && *weight >= self.identity()).map(|(place, _)| place)
    }

    /// Whether the content as it is will not do.
    pub(crate) fn refuses_identity(&self) -> bool {
        let find = |name: &str| self.0.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        find("identity").or_else(|| find("*")).is_some_and(|(_, weight)| *weight == 0)
    }

    /// The weight of a coding, by its name or by `*`.
    fn weight(&self, name: &str) -> Option<u16> {
        let same = |one: &str| {
            one.eq_ignore_ascii_case(name) || (name == "gzip" && one.eq_ignore_ascii_case("x-gzip"))
        };
        let find = |wanted: &dyn Fn(&str) -> bool| self.0.iter().find(|(one, _)| wanted(one));
        find(&same).or_else(|| find(&|one| one == "*")).map(|(_, weight)| *weight)
    }

    /// The content as it is may be sent unless it is refused, and is liked less than what is named.
    fn identity(&self) -> u16 {
        self.0.iter().find(|(one, _)| one.eq_ignore_ascii_case("identity")).map_or(0, |(_, weight)| *weight)
    }
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2); nonsense means no.
fn weight(parameters: &str) -> u16 {
    let quality = parameters.split(';').find_map(|one| {
        let (name, value) = one.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    match quality.map(str::parse::<f32>) {
        None => 1000,
        Some(Ok(quality)) if (0.0..=1.0).contains(&quality) => (quality * 1000.0).round() as u16,
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<Coding> {
        choose(&RawHeaders::of(&[("accept-encoding", accept)]), Coding::ALL.into_iter())
            .map(|place| Coding::ALL[place])
    }

    #[test]
    fn what_is_liked_best_is_taken() {
        use Coding::{Brotli, Gzip, Zstd};
        for (accept, coding) in [
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZIP;Q=0.5, zstd;q=0.8", Some(Zstd)),
            ("br;q=0, *", Some(Zstd)),
            ("br;q=0, *;q=0", None),
            ("*", Some(Brotli)),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("gzip;q=none", None),
            ("gzip;q=1.5", None),
            ("deflate", None),
            ("", None),
        ] {
            assert_eq!(chosen(accept), coding, "{accept}");
        }
        assert_eq!(choose(&RawHeaders::default(), Coding::ALL.into_iter()), None);
    }
}
