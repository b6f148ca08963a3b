//! `compress`: compression of responses.

use std::sync::Arc;

use super::{
    diagnostic::{Problem, show},
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{Integer, Of, SIZE},
    },
    print::{Pairs, strings},
    read::Value,
};

pub use crate::message::Coding;

/// `compress`: which responses are compressed, and with which codings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// Codings by preference, each with its level.
    pub codings: Vec<(Coding, u32)>,
    /// Media types in lower case: whole, or a prefix that ends with `*`.
    pub types: Vec<String>,
    /// Bytes; shorter content is sent uncompressed.
    pub min_size: u64,
}

impl Default for Compress {
    /// Codings in order of CPU time, the cheapest first, because each response is compressed anew.
    fn default() -> Self {
        Self {
            codings: vec![(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)],
            types: COMPRESSED.map(String::from).to_vec(),
            min_size: 1024,
        }
    }
}

/// Media types whose content compresses well.
const COMPRESSED: [&str; 12] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
];

/// `compress` as a key of sites and routes, with its default.
pub const fn key<D>(default: D) -> Key<Of<Option<Arc<Compress>>>, D> {
    Key {
        name: "compress",
        kind: Of {
            shape: || Shape::Either(vec![Shape::Boolean, Shape::Table(&KEYS)]),
            read,
            show: |compress| match compress {
                None => "false".into(),
                Some(compress) if **compress == Compress::default() => "true".into(),
                Some(compress) => pairs(compress).braces(),
            },
        },
        default,
        about: "Compresses text, JSON, JavaScript and similar responses in the coding that the client prefers. \
                Partial content, event streams, and responses with Content-Encoding or Cache-Control: no-transform \
                are not compressed. `true` is the table with its defaults.",
        example: "compress = true",
    }
}

/// The keys of `compress`.
static KEYS: Keys = Keys {
    title: "`compress`",
    place: "[[site]]\ncompress = { … }",
    about: "Settings of response compression.",
    groups: &[&[&CODINGS, &LEVEL, &TYPES, &MIN_SIZE]],
    later: &[],
};

static CODINGS: Defaulted<Of<Vec<(Coding, u32)>>> = Key {
    name: "codings",
    kind: Of {
        shape: coding_list,
        read: codings,
        show: |codings| strings(codings.iter().map(|(coding, _)| coding.name())),
    },
    default: Is(|| Compress::default().codings),
    about: "Codings offered to clients. Among codings that a client accepts equally, the first one is used.",
    example: "codings = [\"zstd\", \"gzip\"]",
};

static LEVEL: Optional<Of<Vec<(Coding, u32)>>> = Key {
    name: "level",
    kind: Of { shape: || Shape::Table(&LEVELS), read: levels, show: |levels| show_levels(levels) },
    default: Unset("the defaults of its keys"),
    about: "Compression level of each coding. A higher level takes more time and saves bytes.",
    example: "level = { gzip = 6 }",
};

static TYPES: Defaulted<Of<Vec<String>>> = Key {
    name: "types",
    kind: Of { shape: || Shape::Text(TYPE).list(), read: types, show: |types| strings(types) },
    default: Is(|| Compress::default().types),
    about: "Media types that are compressed. `*` is allowed at the end of a type only.",
    example: "types = [\"text/*\", \"application/json\"]",
};

static MIN_SIZE: Defaulted<Of<Option<u64>>> = Key {
    name: "min_size",
    kind: SIZE,
    default: Is(|| Some(Compress::default().min_size)),
    about: "Smallest response in bytes that is compressed. Responses of unknown length are compressed too.",
    example: "min_size = \"4k\"",
};

const TYPE: TextShape = TextShape { what: "media type", pattern: "^[^/*; ]+/[^*; ]*\\*?$" };

/// The keys of `compress.level`.
static LEVELS: Keys = Keys {
    title: "`level` of `compress`",
    place: "[[site]]\ncompress = { level = { … } }",
    about: "Compression level of each coding.",
    groups: &[&[&ZSTD, &BR, &GZIP]],
    later: &[],
};

static ZSTD: Defaulted<Integer> = Key {
    name: "zstd",
    kind: Integer(1, 19),
    default: Is(|| default_level(Coding::Zstd)),
    about: "Compression level of zstd.",
    example: "zstd = 6",
};

static BR: Defaulted<Integer> = Key {
    name: "br",
    kind: Integer(1, 11),
    default: Is(|| default_level(Coding::Brotli)),
    about: "Compression level of brotli.",
    example: "br = 5",
};

static GZIP: Defaulted<Integer> = Key {
    name: "gzip",
    kind: Integer(1, 9),
    default: Is(|| default_level(Coding::Gzip)),
    about: "Compression level of gzip.",
    example: "gzip = 6",
};

/// Keys of levels, by coding.
static LEVEL_OF: [(Coding, &Defaulted<Integer>); 3] =
    [(Coding::Zstd, &ZSTD), (Coding::Brotli, &BR), (Coding::Gzip, &GZIP)];

fn default_level(coding: Coding) -> u32 {
    Compress::default().codings.iter().find(|(one, _)| *one == coding).map_or(1, |(_, level)| *level)
}

/// Form of a list of codings.
pub fn coding_list() -> Shape {
    Shape::Words(CODING_WORDS.iter().map(|(word, _)| *word).collect()).list()
}

/// Names of codings.
pub const CODING_WORDS: [(&str, Coding); 3] =
    [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];

/// Reads `true`, `false`, or a table of differences from `true`.
pub fn read(value: Value<'_>) -> Option<Option<Arc<Compress>>> {
    match value.as_bool() {
        Some(true) => return Some(Some(Arc::default())),
        Some(false) => return Some(None),
        None if value.as_table().is_none() => {
            return value.expected("`true`, `false` or a table", "compress = true");
        }
        None => {}
    }
    let mut table = value.table(&KEYS)?;
    let mut compress = Compress { codings: table.read(&CODINGS), types: Vec::new(), min_size: 0 };
    for (coding, level) in table.optional(&LEVEL).unwrap_or_default() {
        compress.codings.iter_mut().filter(|(one, _)| *one == coding).for_each(|(_, old)| *old = level);
    }
    compress.types = table.read(&TYPES);
    compress.min_size = table.read(&MIN_SIZE).unwrap_or(u64::MAX);
    table.finish();
    Some(Some(Arc::new(compress)))
}

/// The keys with their values.
pub fn pairs(compress: &Compress) -> Pairs {
    Pairs::default()
        .key(&CODINGS, &compress.codings)
        .key(&LEVEL, &compress.codings)
        .key(&TYPES, &compress.types)
        .key(&MIN_SIZE, &Some(compress.min_size).filter(|size| *size < u64::MAX))
}

fn show_levels(levels: &[(Coding, u32)]) -> String {
    let key = |coding: Coding| LEVEL_OF.iter().find(|(one, _)| *one == coding);
    let levels = levels.iter().filter_map(|(coding, level)| Some((key(*coding)?.1, level)));
    levels.fold(Pairs::default(), |pairs, (key, level)| pairs.key(key, level)).braces()
}

fn codings(value: Value<'_>) -> Option<Vec<(Coding, u32)>> {
    let items = value.list()?;
    if items.is_empty() {
        let problem = Problem::new("`codings` lists no coding", "empty");
        value.error(problem.help("write `compress = false` to disable compression"));
    }
    let coding =
        |item: Value<'_>| item.choice(&CODING_WORDS, &[]).map(|coding| (coding, default_level(coding)));
    Some(items.into_iter().filter_map(coding).collect())
}

/// Reads `level`: the levels given in the file.
fn levels(value: Value<'_>) -> Option<Vec<(Coding, u32)>> {
    let mut table = value.table(&LEVELS)?;
    let mut levels = Vec::new();
    for (coding, key) in LEVEL_OF {
        let written = table.has(key);
        let level = table.read(key);
        levels.extend(written.then_some((coding, level)));
    }
    table.finish();
    Some(levels)
}

fn types(value: Value<'_>) -> Option<Vec<String>> {
    let kind = |item: Value<'_>| {
        let text = item.string()?;
        let is_type =
            text.split_once('/').is_some_and(|(family, kind)| !family.is_empty() && !kind.is_empty());
        let bare = text.strip_suffix('*').unwrap_or(text);
        if !is_type || bare.contains(['*', ';', ' ']) {
            let problem = Problem::new(format!("{} is not a media type", show(text)), "needs `type/subtype`");
            item.error(problem.help(format!("write for example `{}`", value.example())));
            return None;
        }
        Some(text.to_ascii_lowercase())
    };
    Some(value.list()?.into_iter().filter_map(kind).collect())
}
