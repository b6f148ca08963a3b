//! `redirects` of a site: a file with redirects by path, one a line.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc};

use http::StatusCode;

use super::{
    diagnostic::{Problem, show},
    keys::{Shape, TextShape, kind::Of},
    paths,
    print::path,
    read::Value,
};

/// Redirects of a site by path.
#[derive(Clone, PartialEq, Eq)]
pub struct Redirects {
    /// The file.
    file: PathBuf,
    /// Targets by path, which is decoded.
    by_path: Arc<HashMap<String, RedirectTo>>,
}

/// Target of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectTo {
    /// URL or path.
    pub target: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

impl Redirects {
    /// The redirect of a decoded path.
    pub fn find(&self, path: &str) -> Option<&RedirectTo> {
        self.by_path.get(path)
    }
}

impl fmt::Debug for Redirects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} redirects of {}", self.by_path.len(), self.file.display())
    }
}

/// A file of redirects.
pub const KIND: Of<Redirects> = Of {
    shape: || Shape::Text(TextShape { what: "absolute path", pattern: "^/" }),
    read,
    show: |redirects| path(&redirects.file),
};

/// Most wrong lines that are reported; the rest is only counted.
const MOST_LINES: usize = 5;

fn read(value: Value<'_>) -> Option<Redirects> {
    let (file, text) = paths::file(value, value.string()?)?;
    let mut by_path = HashMap::new();
    let mut wrong = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let reason = match redirect(line) {
            Ok((from, to)) if !by_path.contains_key(&from) => {
                by_path.insert(from, to);
                continue;
            }
            Ok((from, _)) => format!("{} has a redirect already", show(&from)),
            Err(reason) => reason,
        };
        wrong += 1;
        if wrong <= MOST_LINES {
            let title = format!("{}:{}: {reason}", file.display(), number + 1);
            value.error(
                Problem::new(title, "this file").help("a line is `PATH TARGET [STATUS]`: `/old /new 301`"),
            );
        }
    }
    if wrong > MOST_LINES {
        let title = format!("{} has {} more wrong lines", file.display(), wrong - MOST_LINES);
        value.error(Problem::new(title, "this file"));
    }
    Some(Redirects { file, by_path: Arc::new(by_path) })
}

/// Reads `PATH TARGET [STATUS]`.
fn redirect(line: &str) -> Result<(String, RedirectTo), String> {
    let mut words = line.split_whitespace();
    let (from, to) = match (words.next(), words.next()) {
        (Some(from), Some(to)) => (from, to),
        _ => return Err(format!("{} has no target", show(line))),
    };
    let status = match words.next() {
        None => StatusCode::FOUND,
        Some("301") => StatusCode::MOVED_PERMANENTLY,
        Some("302") => StatusCode::FOUND,
        Some("303") => StatusCode::SEE_OTHER,
        Some("307") => StatusCode::TEMPORARY_REDIRECT,
        Some("308") => StatusCode::PERMANENT_REDIRECT,
        Some(other) => return Err(format!("{} is not 301, 302, 303, 307 or 308", show(other))),
    };
    if let Some(more) = words.next().filter(|more| !more.starts_with('#')) {
        return Err(format!("{} follows the status", show(more)));
    }
    if !from.starts_with('/') || from.contains(['?', '#']) {
        return Err(format!("{} is not a path", show(from)));
    }
    if !["/", "http://", "https://"].iter().any(|start| to.starts_with(start)) {
        return Err(format!("{} is neither a URL nor a path", show(to)));
    }
    if !to.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{} has characters that a URL has encoded", show(to)));
    }
    let from = percent_encoding::percent_decode_str(from).decode_utf8_lossy().into_owned();
    Ok((from, RedirectTo { target: to.into(), status }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_a_target_and_a_status() {
        for (line, from, to, status) in [
            ("/old /new", "/old", "/new", 302),
            ("/old\thttps://example.org/x?a=b 308", "/old", "https://example.org/x?a=b", 308),
            ("/a%20b /c 301 # moved", "/a b", "/c", 301),
        ] {
            let (path, target) = redirect(line).unwrap();
            assert_eq!((&*path, &*target.target, target.status.as_u16()), (from, to, status), "{line}");
        }
        for bad in ["/old", "old /new", "/old new", "/old /new 200", "/a?b /c", "/old /new 301 x", "/old /é"]
        {
            assert!(redirect(bad).is_err(), "{bad}");
        }
    }
}
