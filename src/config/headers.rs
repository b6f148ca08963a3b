//! `headers`: headers set on responses.

use http::{HeaderName, HeaderValue};

use super::{
    diagnostic::{Problem, show},
    keys::{Shape, TextShape, kind::Of},
    print::{Pairs, quote},
    read::Value,
};

/// Headers with one value per name, in the order of the file.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// A table of headers.
pub const KIND: Of<Headers> = Of { shape, read, show: |headers| pairs(headers).braces() };

/// The form of a table of headers.
pub fn shape() -> Shape {
    Shape::Text(TextShape { what: "value", pattern: "" }).by("NAME")
}

/// The headers with their values.
pub fn pairs(headers: &Headers) -> Pairs {
    headers.iter().fold(Pairs::default(), |pairs, (name, value)| {
        pairs.named(name.as_str(), quote(&String::from_utf8_lossy(value.as_bytes())))
    })
}

const EXAMPLE: &str = "headers = { X-Frame-Options = \"SAMEORIGIN\" }";

/// Headers that frame the response or control the connection. A wrong one corrupts the next response of the
/// connection.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads a table of headers.
pub fn read(value: Value<'_>) -> Option<Headers> {
    let mut headers = Headers::new();
    for (key, value) in value.entries()? {
        let name = key.read(|text| {
            let name = name(text)?;
            match headers.iter().any(|(other, _)| *other == name) {
                true => Err(Problem::new(
                    format!("the header `{text}` is listed twice"),
                    "header names ignore case",
                )),
                false => Ok(name),
            }
        });
        let content = value.string_like(EXAMPLE).and_then(|text| value.parse(text, content));
        headers.extend(name.zip(content));
    }
    Some(headers)
}

/// Merges the headers of a route into those of its site; a route's header replaces the site's of the same name.
pub fn merge(outer: &Headers, inner: Headers) -> Headers {
    let mut merged: Headers =
        outer.iter().filter(|(name, _)| inner.iter().all(|(other, _)| other != name)).cloned().collect();
    merged.extend(inner);
    merged
}

/// Reads the value of a header.
pub fn content(text: &str) -> Result<HeaderValue, Problem> {
    if text.trim() != text {
        return Err(Problem::new(
            format!("{} begins or ends with a space", show(text)),
            "no space at the ends",
        )
        .help(format!("write `{:?}`", text.trim())));
    }
    // `HeaderValue` allows more than ASCII, but programs differ in how they read those bytes.
    HeaderValue::from_str(text).ok().filter(|_| text.is_ascii()).ok_or_else(|| {
        Problem::new(
            format!("{} cannot be the value of a header", show(text)),
            "only visible ASCII and spaces",
        )
    })
}

/// Reads the name of a header that does not frame the response.
pub fn name(text: &str) -> Result<HeaderName, Problem> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let problem =
            Problem::new(format!("{} is not the name of a header", show(text)), "no spaces, no colon");
        return Err(problem.help(format!("write for example `{EXAMPLE}`")));
    };
    if FRAMING.contains(&name.as_str()) {
        let title = format!("the header `{text}` is set by the proxy itself");
        return Err(Problem::new(title, "controls the framing or the connection").help("remove it"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deeper_replaces_the_same_name_only() {
        let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let merged =
            merge(&vec![header("a", "1"), header("b", "1")], vec![header("b", "2"), header("c", "2")]);
        assert_eq!(merged, [header("a", "1"), header("b", "2"), header("c", "2")]);
    }

    #[test]
    fn values_are_one_clean_line() {
        assert!(content("max-age=31536000; includeSubDomains").is_ok() && content("").is_ok());
        for bad in [" a", "a\n", "a\r\nb: c", "é", "a\0"] {
            assert!(content(bad).is_err(), "{bad:?}");
        }
    }
}
