//! `headers` and `request_headers`: changes to the headers of responses, and of requests to upstream servers.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};

use super::{
    diagnostic::{Problem, show},
    keys::{Shape, TextShape, kind},
    paths,
    print::{Pairs, quote, strings},
    read::{self, Value},
    template::{NameScope, Template, template},
};

/// Changes of headers, one per name, in the order of the file.
pub type Headers = Vec<(HeaderName, HeaderSetting)>;

/// Change of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderSetting {
    /// The header has this value.
    Value(HeaderValue),
    /// The header has the value of this template; it is removed where that is empty.
    Template(Template),
    /// The header has the first line of a file as its value.
    File {
        /// The file.
        path: PathBuf,
        /// The line, read with the configuration.
        value: HeaderValue,
    },
    /// The header is removed.
    Remove,
}

/// Direction of the message whose headers are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Responses to clients.
    Response,
    /// Requests to upstream servers.
    Request,
}

impl HeaderSetting {
    /// The template, if the value is one.
    pub fn template(&self) -> Option<&Template> {
        match self {
            Self::Template(template) => Some(template),
            Self::Value(_) | Self::File { .. } | Self::Remove => None,
        }
    }
}

/// Headers with fixed values, in the order of the file.
pub type FixedHeaders = Vec<(HeaderName, HeaderValue)>;

/// A table of headers with fixed values.
pub const FIXED: kind::Of<FixedHeaders> = kind::Of {
    shape: || Shape::Text(VALUE).by("NAME"),
    read: fixed,
    show: |headers| {
        let shown = |value: &HeaderValue| quote(&String::from_utf8_lossy(value.as_bytes()));
        let add = |pairs: Pairs, (name, value): &(HeaderName, HeaderValue)| {
            pairs.named(name.as_str(), shown(value))
        };
        headers.iter().fold(Pairs::default(), add).braces()
    },
};

/// The form of a table of header changes.
pub fn shape() -> Shape {
    Shape::Either(vec![Shape::Text(VALUE), Shape::Boolean]).by("NAME")
}

const VALUE: TextShape = TextShape { what: "value", pattern: "" };

/// The headers with their values.
pub fn pairs(headers: &Headers) -> Pairs {
    headers.iter().fold(Pairs::default(), |pairs, (name, setting)| {
        let shown = match setting {
            HeaderSetting::Value(value) => {
                quote(&Template::text(&String::from_utf8_lossy(value.as_bytes())).to_string())
            }
            HeaderSetting::Template(template) => quote(&template.to_string()),
            HeaderSetting::File { path, .. } => quote(&format!("file:{}", path.display())),
            HeaderSetting::Remove => "false".into(),
        };
        pairs.named(name.as_str(), shown)
    })
}

const EXAMPLE: &str = "headers = { X-Frame-Options = \"SAMEORIGIN\" }";

/// Headers that frame the message or control the connection. A wrong one corrupts the next message of the
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

/// Reads a table of header changes, whose values may have names of `captures`.
pub fn read(value: Value<'_>, of: Of, captures: &[&str]) -> Option<Headers> {
    by_name(value, |value| setting(value, of, captures))
}

/// Reads a table of headers with fixed values.
fn fixed(value: Value<'_>) -> Option<FixedHeaders> {
    by_name(value, |value| value.string_like(EXAMPLE).and_then(|text| value.parse(text, content)))
}

fn by_name<'a, T>(value: Value<'a>, read: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<(HeaderName, T)>> {
    let mut headers: Vec<(HeaderName, T)> = Vec::new();
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
        headers.extend(name.zip(read(value)));
    }
    Some(headers)
}

fn setting(value: Value<'_>, of: Of, captures: &[&str]) -> Option<HeaderSetting> {
    match value.as_bool() {
        Some(false) => return Some(HeaderSetting::Remove),
        Some(true) => return value.expected("a string, or `false` to remove the header", EXAMPLE),
        None => {}
    }
    let text = value.string_like(EXAMPLE)?;
    match text.strip_prefix("file:") {
        Some(path) if of == Of::Request => return secret(value, path),
        _ => {}
    }
    value.parse(text, |text| {
        let read = template(text, NameScope { captures, response: of == Of::Response })?;
        Ok(match read.literal() {
            Some("") => HeaderSetting::Remove,
            Some(literal) => HeaderSetting::Value(content(literal)?),
            None => {
                content(text)?;
                HeaderSetting::Template(read)
            }
        })
    })
}

/// Reads `file:PATH`: the value is the first line of the file.
fn secret(value: Value<'_>, path: &str) -> Option<HeaderSetting> {
    let (path, text) = paths::file(value, path)?;
    let line = text.lines().next().unwrap_or_default().trim();
    let mut secret = value.parse(line, |line| {
        content(line).map_err(|_| {
            // The line is not shown: it is a secret.
            let title = format!(
                "the first line of {} cannot be the value of a header",
                show(&path.to_string_lossy())
            );
            Problem::new(title, "only visible ASCII and spaces")
        })
    })?;
    secret.set_sensitive(true);
    Some(HeaderSetting::File { path, value: secret })
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

/// A list of names of headers.
pub const NAMES: kind::Of<Vec<HeaderName>> = kind::Of {
    shape: || Shape::Text(TextShape { what: "header name", pattern: "^[^ :]+$" }).list(),
    read: |value| Some(value.list()?.into_iter().filter_map(read::text(any_name)).collect()),
    show: |names| strings(names.iter().map(HeaderName::as_str)),
};

/// Reads the name of any header.
pub fn any_name(text: &str) -> Result<HeaderName, Problem> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        Problem::new(format!("{} is not the name of a header", show(text)), "no spaces, no colon")
    })
}

/// Reads the name of a header that does not frame the message.
pub fn name(text: &str) -> Result<HeaderName, Problem> {
    let name = any_name(text).map_err(|problem| problem.help(format!("write for example `{EXAMPLE}`")))?;
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
        let header = |name, value| {
            (HeaderName::from_static(name), HeaderSetting::Value(HeaderValue::from_static(value)))
        };
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
