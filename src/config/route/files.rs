//! `files = "/dir"` with its modifiers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use http::HeaderValue;

use super::{
    action::{Action, ActionScope},
    answer::content_type,
};
use crate::config::{
    compress::{CODING_WORDS, Coding, coding_list},
    diagnostic::{Problem, show},
    keys::{
        Defaulted, Group, Is, Key, OneOf, Optional, Shape, TextShape, Unset,
        kind::{BOOLEAN, FILE, Of, Shaped, Words},
    },
    paths,
    print::{Pairs, list, path, quote, strings},
    read::{FileKey, Table, Value, text},
    template::{NameScope, Part, Template, template},
};

/// `files = "/dir"` with its modifiers.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The directory that replaces the prefix (nginx's `alias`); for exact and regex keys the file itself.
    pub root: Template,
    /// The only directories that files may come from; empty means `root` alone.
    pub within: Vec<PathBuf>,
    /// `try`: further directories that are searched for the file, in this order.
    pub otherwise: Vec<Template>,
    /// Policy for symlinks on the way to a file.
    pub symlinks: Symlinks,
    /// Names of index files.
    pub index: Vec<String>,
    /// Whether a directory without an index file is listed.
    pub listing: bool,
    /// Codings of precompressed files beside a file (`.br`, `.zst`, `.gz`), by preference.
    pub precompressed: Arc<[Coding]>,
    /// Media types by file name ending, searched before the built-in ones.
    pub types: Types,
}

/// Media types of a route by file name ending, beside the built-in ones.
pub type Types = Arc<[(String, HeaderValue)]>;

/// `symlinks` of a route: policy for symlinks on the way to a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Symlinks {
    /// Symlinks that end in the root or in `within` are followed.
    #[default]
    Inside,
    /// Every symlink is followed.
    Follow,
    /// No symlink below the root is followed.
    None,
}

/// Keys of the action.
pub const KEYS: Group = &[&FILES, &WITHIN, &TRY, &INDEX, &LISTING, &PRECOMPRESSED, &TYPES, &SYMLINKS];

static FILES: Key<Shaped, OneOf> = Key {
    name: "files",
    kind: Shaped(|| Shape::Text(FILE)),
    default: OneOf,
    about: "Files of a directory, which replaces the prefix of the route (nginx's `alias`); for exact routes and \
            expressions the file itself. Captures of the expression and other `{names}` are written in braces. Hidden \
            files are not served.",
    example: "files = \"/srv/galaxy/server/static\"",
};

static WITHIN: Optional<Of<Vec<PathBuf>>> = Key {
    name: "within",
    kind: Of {
        shape: || Shape::Text(FILE).list(),
        read: within,
        show: |directories| list(directories.iter().map(|one| path(one))),
    },
    default: Unset("the directory of `files`"),
    about: "The only directories that files may come from, after symlinks. Set it on internal routes: the application can \
            send every file below them.",
    example: "files = \"/\", internal = true, within = [\"/srv/galaxy/var\", \"/data\"]",
};

static TRY: Optional<Shaped> = Key {
    name: "try",
    kind: Shaped(|| Shape::Text(FILE).list()),
    default: Unset("nowhere else"),
    about: "Further directories that are searched, in this order, for files missing from `files`.",
    example: "files = \"/srv/galaxy/server/static\", try = [\"/srv/galaxy/custom/static\"]",
};

static INDEX: Optional<Of<Vec<String>>> = Key {
    name: "index",
    kind: Of {
        shape: || Shape::one_or_more(|| Shape::Text(NAME)),
        read: index,
        show: |names| strings(names),
    },
    default: Unset("none"),
    about: "Names of index files, which are sent for their directory. The first existing one is used.",
    example: "files = \"/srv/galaxy/docs\", index = \"index.html\"",
};

static LISTING: Defaulted<Of<bool>> = Key {
    name: "listing",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Directories without an index are listed, as a page or as JSON by Accept (nginx's `autoindex`).",
    example: "files = \"/srv/public\", listing = true",
};

static PRECOMPRESSED: Defaulted<Of<Arc<[Coding]>>> = Key {
    name: "precompressed",
    kind: Of {
        shape: || Shape::Either(vec![Shape::Boolean, coding_list()]),
        read: precompressed,
        show: show_precompressed,
    },
    default: Is(Arc::default),
    about: "`app.js.br`, `app.js.zst` or `app.js.gz` beside `app.js`, if not older, is sent to clients that accept the coding \
            (nginx's `gzip_static`). `true` is all three; a list is in order of preference.",
    example: "files = \"/srv/galaxy/server/static\", precompressed = true",
};

static TYPES: Optional<Of<Types>> = Key {
    name: "types",
    kind: Of { shape: || Shape::Text(MEDIA_TYPE).by("ENDING"), read: types, show: show_types },
    default: Unset("the built-in ones"),
    about: "Media types by file name ending, searched before the built-in ones.",
    example: "files = \"/data\", types = { bam = \"application/octet-stream\" }",
};

static SYMLINKS: Defaulted<Words<Symlinks>> = Key {
    name: "symlinks",
    kind: Words(&[("inside", Symlinks::Inside), ("follow", Symlinks::Follow), ("none", Symlinks::None)]),
    default: Is(Symlinks::default),
    about: "Symlinks that are followed on the way to a file: those that end inside of `files` or `within`, all, or \
            none.",
    example: "files = \"/data\", symlinks = \"follow\"",
};

const NAME: TextShape = TextShape { what: "file name", pattern: "^[^/]+$" };
/// The form of a media type.
pub const MEDIA_TYPE: TextShape = TextShape { what: "media type", pattern: "^[^/ ;]+/[^/ ;]+" };

/// Reads the action.
pub fn read(table: &mut Table<'_>, value: Value<'_>, scope: &ActionScope<'_>) -> Option<Action> {
    let within = table.optional(&WITHIN).unwrap_or_default();
    let symlinks = table.read(&SYMLINKS);
    let index = table.optional(&INDEX).unwrap_or_default();
    let listing = table.read(&LISTING);
    let precompressed = table.read(&PRECOMPRESSED);
    let types = table.optional(&TYPES).unwrap_or_default();
    let places = |value: Value<'_>| {
        let items = value.list()?;
        Some(items.into_iter().filter_map(|item| place(item, scope.captures)).collect())
    };
    let otherwise = table.take(&TRY).and_then(places).unwrap_or_default();
    let root = place(value, scope.captures)?;
    Some(Action::Files(Files { root, within, otherwise, symlinks, index, listing, precompressed, types }))
}

/// The keys with their values.
pub fn pairs(files: &Files) -> Pairs {
    let otherwise = files.otherwise.iter().map(|place| quote(&place.to_string()));
    Pairs::default()
        .written(&FILES, quote(&files.root.to_string()))
        .optional(&WITHIN, Some(&files.within).filter(|directories| !directories.is_empty()))
        .written_if(&TRY, (!files.otherwise.is_empty()).then(|| list(otherwise)))
        .optional(&INDEX, Some(&files.index).filter(|names| !names.is_empty()))
        .unless_default(&LISTING, &files.listing)
        .unless_default(&PRECOMPRESSED, &files.precompressed)
        .optional(&TYPES, Some(&files.types).filter(|types| !types.is_empty()))
        .unless_default(&SYMLINKS, &files.symlinks)
}

fn show_precompressed(codings: &Arc<[Coding]>) -> String {
    match &**codings {
        [] => "false".into(),
        all if *all == Coding::ALL => "true".into(),
        some => strings(some.iter().map(|coding| coding.name())),
    }
}

fn show_types(types: &Types) -> String {
    let pairs = types.iter().fold(Pairs::default(), |pairs, (ending, kind)| {
        pairs.named(quote(ending), quote(kind.to_str().unwrap_or_default()))
    });
    pairs.braces()
}

/// Reads a directory or file, perhaps with captures in its name. The part without captures must exist.
fn place(value: Value<'_>, captures: Option<&[&str]>) -> Option<Template> {
    let text = value.string()?;
    let captures = captures?;
    let root = value.parse(text, |text| root(text, captures))?;
    paths::need_something(value, &fixed_part(&root));
    Some(root)
}

/// Reads `index`: one name or a list.
fn index(value: Value<'_>) -> Option<Vec<String>> {
    let name = |text: &str| match text {
        "" | "." | ".." => {
            Err(Problem::new(format!("{} is not the name of a file", show(text)), "no file can have it"))
        }
        _ if text.contains('/') => {
            Err(Problem::new(format!("{} is a path", show(text)), "must be a file name")
                .help("remove the slash"))
        }
        _ => Ok(text.to_owned()),
    };
    let one = text(name);
    match value.as_list() {
        Some(items) => Some(items.into_iter().filter_map(one).collect()),
        None => one(value).map(|name| vec![name]),
    }
}

/// Reads `true`, `false` or a list of codings.
fn precompressed(value: Value<'_>) -> Option<Arc<[Coding]>> {
    match value.as_bool() {
        Some(true) => return Some(Coding::ALL.into()),
        Some(false) => return Some(Arc::default()),
        None if value.as_list().is_none() => {
            return value
                .expected("`true`, `false` or a list of codings", "precompressed = [\"br\", \"gzip\"]");
        }
        None => {}
    }
    let items = value.list()?;
    if items.is_empty() {
        let problem = Problem::new("`precompressed` lists no coding", "empty");
        value.error(problem.help("write `precompressed = false` to disable it"));
    }
    let coding = |item: Value<'_>| item.choice(&CODING_WORDS, &[]);
    Some(items.into_iter().filter_map(coding).collect())
}

fn types(value: Value<'_>) -> Option<Types> {
    let entries = value.entries()?;
    let entry = |(key, value): (FileKey<'_>, Value<'_>)| {
        let ending = key.text.trim_start_matches('.').to_ascii_lowercase();
        Some((ending, value.parse(value.string_like(TYPES.example)?, content_type)?))
    };
    Some(entries.into_iter().filter_map(entry).collect())
}

fn root(text: &str, captures: &[&str]) -> Result<Template, Problem> {
    paths::shape(text, "/srv/galaxy")?;
    if text.starts_with("/{") {
        // Otherwise a request could choose any directory of the machine.
        return Err(Problem::new(
            format!("{} lets the request choose among all directories", show(text)),
            "a fixed directory first",
        )
        .help("write for example `\"/srv/galaxy/{name}\"`"));
    }
    template(paths::trimmed(text), NameScope { captures, response: false })
}

/// The directory that contains all files of a template, or the file when it has no captures.
fn fixed_part(root: &Template) -> PathBuf {
    match (root.literal(), root.0.first()) {
        (Some(path), _) => path.into(),
        (None, Some(Part::Text(text))) => {
            let (directory, _) = text.rsplit_once('/').unwrap_or_default();
            paths::trimmed(directory).into()
        }
        _ => Path::new("/").into(),
    }
}

fn within(value: Value<'_>) -> Option<Vec<PathBuf>> {
    let items = value.list()?;
    if items.is_empty() {
        let problem = Problem::new("`within` lists no directory", "empty");
        value.error(problem.help("write for example `within = [\"/srv/galaxy/var\"]`"));
    }
    let read = |item: Value<'_>| {
        let path = item.parse(item.string()?, |text| paths::absolute(text, "/srv/galaxy"))?;
        paths::need_directory(item, &path);
        Some(path)
    };
    Some(items.into_iter().filter_map(read).collect())
}
