//! Galaxy's map of interactive tools: where each running tool listens.

#[cfg(feature = "postgres")]
pub mod postgres;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    diagnostic::{Problem, show},
    keys::TextShape,
    paths,
    read::Value,
};

/// Map of interactive tools (Galaxy's `interactivetools_map` and `interactivetoolsproxy_map`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ToolMap {
    /// SQLite database, which Galaxy creates when the first tool starts.
    Sqlite(PathBuf),
    /// JSON file.
    Json(PathBuf),
    /// URL of a PostgreSQL database, which may have a password in it.
    Postgres(String),
}

/// Form of the value.
pub const FORM: TextShape =
    TextShape { what: "path, or URL of a database", pattern: "^(/|[a-z]+(\\+[a-z0-9]+)?://)" };

impl ToolMap {
    /// The value of the key, without a password.
    pub fn shown(&self) -> String {
        match self {
            Self::Sqlite(path) if is_json(path) => format!("sqlite:///{}", path.display()),
            Self::Sqlite(path) | Self::Json(path) => path.display().to_string(),
            Self::Postgres(url) => without_password(url),
        }
    }
}

impl fmt::Display for ToolMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Reads a map; that the directory of its file exists is checked.
pub fn read(value: Value<'_>) -> Option<ToolMap> {
    let map = value.parse(value.string()?, parse)?;
    if let ToolMap::Sqlite(path) | ToolMap::Json(path) = &map {
        // The file itself may come later, with the first tool.
        paths::need_parent(value, path);
    }
    Some(map)
}

/// Whether a value of `interactive_tools` is a map, and not the name of an upstream.
pub fn is_map(text: &str) -> bool {
    let path = Path::new(text);
    text.contains('/') || is_json(path) || path.extension().is_some_and(|end| end == "sqlite")
}

/// Reads the path of a file, or a URL as SQLAlchemy has it.
pub fn parse(text: &str) -> Result<ToolMap, Problem> {
    const HOME: &str = "/srv/galaxy";
    let Some((scheme, rest)) = text.split_once("://") else {
        if !is_map(text) {
            return Err(Problem::new(format!("{} is not a map of interactive tools", show(text)), "not a path").help(
                "write `interactivetools_map` of galaxy.yml, for example `\"/srv/galaxy/var/interactivetools_map.sqlite\"`; \
                 a gx-it-proxy is an upstream: `proxy = \"tools\"`",
            ));
        }
        let path = paths::absolute(text, HOME)?;
        return Ok(if is_json(&path) { ToolMap::Json(path) } else { ToolMap::Sqlite(path) });
    };
    match scheme.split('+').next().unwrap_or_default() {
        "sqlite" => match rest.strip_prefix('/').filter(|path| path.starts_with('/')) {
            Some(path) => Ok(ToolMap::Sqlite(paths::absolute(path, HOME)?)),
            None => Err(Problem::new(
                format!("{} names no file of this machine", show(text)),
                "needs four slashes",
            )
            .help("write for example `\"sqlite:////srv/galaxy/var/interactivetools_map.sqlite\"`")),
        },
        "postgresql" | "postgres" => postgres(&format!("postgresql://{rest}")),
        _ => Err(Problem::new(
            format!("maps of interactive tools are not read from {}", show(&format!("{scheme}://"))),
            "unknown",
        )
        .help("write the path of a file that ends in `.sqlite` or `.json`, or `\"postgresql://…\"`")),
    }
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<ToolMap, Problem> {
    match postgres::read(url) {
        Ok(_) => Ok(ToolMap::Postgres(url.into())),
        Err(reason) => Err(Problem::new("this is not the URL of a PostgreSQL database", reason)
            .help("write for example `\"postgresql://galaxy@/galaxy?host=/run/postgresql\"`")),
    }
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Result<ToolMap, Problem> {
    Err(Problem::new("this bowshock was built without PostgreSQL", "cannot be read")
        .help("install a package, or build with `cargo build --release --features postgres`"))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json")
}

/// The URL with `***` in place of a password, also of one in the query.
fn without_password(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let mut shown = base.to_owned();
    let start = base.find("://").map_or(0, |at| at + 3);
    // An `@` or `/` that should have been encoded belongs to the password.
    if let Some(at) = base[start..].rfind('@')
        && let Some(colon) = base[start..start + at].find(':')
    {
        shown.replace_range(start + colon + 1..start + at, "***");
    }
    if let Some(query) = query {
        let pair =
            |pair: &str| if pair.starts_with("password=") { "password=***".into() } else { pair.to_owned() };
        shown = format!("{shown}?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_and_the_scheme_tell_the_kind() {
        for (text, expected) in [
            ("/srv/map.sqlite", ToolMap::Sqlite("/srv/map.sqlite".into())),
            ("/srv/map.json", ToolMap::Json("/srv/map.json".into())),
            ("/srv/map", ToolMap::Sqlite("/srv/map".into())),
            ("sqlite:////srv/map.db", ToolMap::Sqlite("/srv/map.db".into())),
            ("sqlite:////srv/map.json", ToolMap::Sqlite("/srv/map.json".into())),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
            assert_eq!(parse(&expected.shown()).unwrap(), expected, "{text}");
        }
        for text in ["tools", "srv/map.sqlite", "sqlite://srv/map", "sqlite:///srv/map", "mysql://a/b", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn urls_of_sqlalchemy_and_libpq_are_read() {
        for url in [
            "postgresql://galaxy:secret@db.example.org:5433/tools",
            "postgresql+psycopg2://galaxy@db/tools",
            "postgresql:///tools?host=/run/postgresql",
        ] {
            let ToolMap::Postgres(read) = parse(url).unwrap() else { panic!("{url}") };
            assert!(read.starts_with("postgresql://"), "{read}");
        }
        assert!(parse("postgresql://db/tools?colour=red").is_err());
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("postgresql://galaxy:se:c/r@et@db:5432/tools", "postgresql://galaxy:***@db:5432/tools"),
            ("postgresql://galaxy:se:c@ret@db:5432/tools", "postgresql://galaxy:***@db:5432/tools"),
            ("postgresql://galaxy@db/tools?host=/run", "postgresql://galaxy@db/tools?host=/run"),
            ("postgresql:///tools?password=x&host=/run", "postgresql:///tools?password=***&host=/run"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
