//! Values of nginx with variables, and the same values with `{names}`.

use std::{collections::HashMap, fmt};

/// Value with names that stand for parts of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expr(pub Vec<Piece>);

/// A piece of an [`Expr`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(String),
    /// `{name}`.
    Name(String),
}

/// A piece of a value as nginx reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `$name` or `${name}`.
    Variable(String),
}

/// Reason why a value cannot be written with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoValue {
    /// Variable of a `map` or `geo`, which has a value in each of several cases.
    Map(String),
    /// Variable without an equivalent.
    Unknown(String),
}

/// Variables that have values at a point of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// Variables of `set` and of resolved maps, and named captures.
    pub set: HashMap<String, Expr>,
    /// Positional captures, `$1` first.
    pub captures: Vec<Expr>,
    /// Names of `map` and `geo` variables.
    pub maps: Vec<String>,
    /// Value of `$server_name`.
    pub server_name: String,
    /// Value of `$document_root`.
    pub root: Option<Expr>,
}

impl Expr {
    /// Literal text.
    pub fn text(text: &str) -> Self {
        let mut expr = Self::default();
        expr.push_text(text);
        expr
    }

    /// A single name.
    pub fn name(name: &str) -> Self {
        Self(vec![Piece::Name(name.into())])
    }

    /// Appends literal text.
    pub fn push_text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.into())),
        }
    }

    /// Appends another value.
    pub fn push(&mut self, other: &Self) {
        for piece in &other.0 {
            match piece {
                Piece::Text(text) => self.push_text(text),
                name @ Piece::Name(_) => self.0.push(name.clone()),
            }
        }
    }

    /// The text if there are no names.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The name if that is all.
    pub fn only_name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Name(name)] => Some(name),
            _ => None,
        }
    }

    /// The literal text at the beginning.
    pub fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The value without `prefix` at its beginning.
    pub fn without_prefix(&self, prefix: &str) -> Option<Self> {
        let rest = self.prefix().strip_prefix(prefix)?;
        let mut expr = Self::text(rest);
        let skipped = usize::from(!self.prefix().is_empty());
        expr.push(&Self(self.0[skipped..].to_vec()));
        Some(expr)
    }

    /// Whether the name is used.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Name(used) if used == name))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `{path}` followed by `?{query}` is `{uri}`.
    fn with_uri(mut self) -> Self {
        let is = |piece: &Piece, name: &str| matches!(piece, Piece::Name(used) if used == name);
        while let Some(at) = self.0.windows(3).position(|three| {
            is(&three[0], "path")
                && (is(&three[1], IS_ARGS) || three[1] == Piece::Text("?".into()))
                && is(&three[2], "query")
        }) {
            self.0.splice(at..at + 3, [Piece::Name("uri".into())]);
        }
        let pieces = std::mem::take(&mut self.0);
        for piece in pieces {
            match piece {
                Piece::Name(name) if name == IS_ARGS => self.push_text("?"),
                Piece::Text(text) => self.push_text(&text),
                name => self.0.push(name),
            }
        }
        self
    }

    /// The value without a query at its end.
    pub fn without_query(mut self) -> Self {
        if self.0.ends_with(&[Piece::Name("query".into())]) {
            self.0.pop();
            if let Some(Piece::Text(text)) = self.0.last_mut() {
                if let Some(bare) = text.strip_suffix('?') {
                    *text = bare.into();
                }
                if text.is_empty() {
                    self.0.pop();
                }
            }
        }
        self
    }
}

/// Most pieces of a value: one that is made of itself over and over has no end.
const MOST_PIECES: usize = 64;

/// Longest value in bytes.
const LONGEST: usize = 1 << 14;

impl Piece {
    fn length(&self) -> usize {
        match self {
            Self::Text(text) | Self::Name(text) => text.len(),
        }
    }
}

/// Name that stands for `$is_args` while a value is put together.
const IS_ARGS: &str = "is_args";

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Name(name) => write!(f, "{{{name}}}"),
        })
    }
}

/// Splits a value of nginx into text and variables.
pub fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        let behind = &from[1..];
        let (name, length) = match behind.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => {
                let is_digit = behind.starts_with(|letter: char| letter.is_ascii_digit());
                let part_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let end =
                    if is_digit { 1 } else { behind.find(|c| !part_of_name(c)).unwrap_or(behind.len()) };
                (&behind[..end], end + 1)
            }
        };
        if name.is_empty() {
            literal.push('$');
            rest = behind;
            continue;
        }
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::Variable(name.into()));
        rest = &from[length..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    parts
}

/// Names of the variables in a value.
pub fn variables(text: &str) -> Vec<String> {
    let name = |part: Part| match part {
        Part::Variable(name) => Some(name),
        Part::Text(_) => None,
    };
    parts(text).into_iter().filter_map(name).collect()
}

impl Variables {
    /// Replaces the variables of a value by names.
    pub fn resolve(&self, text: &str) -> Result<Expr, NoValue> {
        let mut expr = Expr::default();
        for part in parts(text) {
            match part {
                Part::Text(text) => expr.push_text(&text),
                Part::Variable(name) => expr.push(&self.value(&name)?),
            }
            if expr.0.iter().map(Piece::length).sum::<usize>() > LONGEST {
                return Err(NoValue::Unknown("of a value that grows".into()));
            }
        }
        if expr.0.len() > MOST_PIECES {
            return Err(NoValue::Unknown("of a value that grows".into()));
        }
        Ok(expr.with_uri())
    }

    /// Value of one variable.
    pub fn value(&self, name: &str) -> Result<Expr, NoValue> {
        if let Some(position) = name.parse::<usize>().ok().filter(|position| *position > 0) {
            let capture = self.captures.get(position - 1).cloned();
            return capture.ok_or_else(|| NoValue::Unknown(name.into()));
        }
        if let Some(value) = self.set.get(name) {
            return Ok(value.clone());
        }
        if self.maps.iter().any(|map| map == name) {
            return Err(NoValue::Map(name.into()));
        }
        let known = match name {
            "host" | "http_host" => "host",
            "request_uri" => "uri",
            "uri" | "document_uri" => "path",
            "args" | "query_string" => "query",
            "is_args" => IS_ARGS,
            "scheme" => "scheme",
            "remote_addr" | "binary_remote_addr" | "realip_remote_addr" => "client",
            "server_port" => "port",
            "request_method" => "method",
            "remote_user" => "user",
            "request_id" => "request_id",
            "server_name" => return Ok(Expr::text(&self.server_name)),
            "document_root" | "realpath_root" => {
                return self.root.clone().ok_or_else(|| NoValue::Unknown(name.into()));
            }
            _ => return of_family(name).ok_or_else(|| NoValue::Unknown(name.into())),
        };
        Ok(Expr::name(known))
    }
}

/// Names of headers, cookies and parameters.
fn of_family(name: &str) -> Option<Expr> {
    let (prefix, family) = [
        ("upstream_http_", "response"),
        ("sent_http_", "response"),
        ("http_", "header"),
        ("cookie_", "cookie"),
        ("arg_", "query"),
    ]
    .into_iter()
    .find(|(prefix, _)| name.starts_with(prefix))?;
    let bare = &name[prefix.len()..];
    let bare = if matches!(family, "response" | "header") { header_name(bare) } else { bare.into() };
    Some(Expr::name(&format!("{family}.{bare}")))
}

/// Name of a header in its usual spelling: `x_api_key` is `X-Api-Key`.
pub fn header_name(variable: &str) -> String {
    let words = variable.split(['_', '-']).map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_names() {
        let mut variables = Variables { captures: vec![Expr::name("g1")], ..Variables::default() };
        variables.set.insert("root".into(), Expr::text("/srv"));
        variables.maps.push("mapped".into());
        for (text, value) in [
            ("https://$host$request_uri", "https://{host}{uri}"),
            ("$root/static", "/srv/static"),
            ("${root}x/$1.html", "/srvx/{g1}.html"),
            ("$uri$is_args$args", "{uri}"),
            ("/a$is_args$args", "/a?{query}"),
            ("/a?$query_string", "/a?{query}"),
            (
                "$http_x_api_key:$arg_q:$cookie_galaxysession",
                "{header.X-Api-Key}:{query.q}:{cookie.galaxysession}",
            ),
            ("$upstream_http_access_control_allow_origin", "{response.Access-Control-Allow-Origin}"),
            ("100$", "100$"),
            ("a{b}", "a{{b}}"),
        ] {
            assert_eq!(variables.resolve(text).map(|expr| expr.to_string()).as_deref(), Ok(value), "{text}");
        }
        assert_eq!(variables.resolve("$mapped"), Err(NoValue::Map("mapped".into())));
        assert_eq!(variables.resolve("$nonsense"), Err(NoValue::Unknown("nonsense".into())));
        assert_eq!(variables.resolve("$2"), Err(NoValue::Unknown("2".into())));
    }

    #[test]
    fn prefixes_and_queries_are_cut() {
        let expr = Variables { captures: vec![Expr::name("g1")], ..Variables::default() }
            .resolve("/galaxy$1")
            .unwrap();
        assert_eq!(expr.without_prefix("/gal").unwrap().to_string(), "axy{g1}");
        assert_eq!(expr.without_prefix("/galaxy").unwrap().to_string(), "{g1}");
        assert_eq!(expr.without_prefix("/x"), None);
        let query = Variables::default().resolve("/a?$args").unwrap();
        assert_eq!(query.without_query().to_string(), "/a");
    }
}
