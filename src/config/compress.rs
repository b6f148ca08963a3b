//! `compress`: codings of answers.

use std::sync::Arc;

use super::{
    diagnostic::{Problem, show},
    model::{Coding, Compress},
    read::{COMPRESS, LEVELS, Value, integer},
};

/// Names of codings, and their highest levels.
pub const CODINGS: [(&str, (Coding, u32)); 3] =
    [("zstd", (Coding::Zstd, 19)), ("br", (Coding::Brotli, 11)), ("gzip", (Coding::Gzip, 9))];

/// Reads `true`, `false`, or a table of what differs from `true`.
pub fn read(value: Value<'_>) -> Option<Option<Arc<Compress>>> {
    match value.as_bool() {
        Some(true) => return Some(Some(Arc::default())),
        Some(false) => return Some(None),
        None if value.as_table().is_none() => {
            return value.wanted("`true`, `false` or a table", "compress = true");
        }
        None => {}
    }
    let mut table = value.table(&COMPRESS, "compress = true")?;
    let mut compress = Compress::default();
    if let Some(codings) = table.optional("codings", codings) {
        compress.codings = codings;
    }
    table.optional("level", |value| levels(value, &mut compress.codings));
    if let Some(types) = table.optional("types", types) {
        compress.types = types;
    }
    if let Some(min_size) = table.optional("min_size", Value::size) {
        compress.min_size = min_size.unwrap_or(u64::MAX);
    }
    table.finish();
    Some(Some(Arc::new(compress)))
}

fn codings(value: Value<'_>) -> Option<Vec<(Coding, u32)>> {
    let items = value.list("codings = [\"zstd\", \"br\", \"gzip\"]")?;
    if items.is_empty() {
        let problem = Problem::new("`codings` names no coding", "empty");
        value.error(problem.help("write `compress = false` where nothing is to be compressed"));
    }
    let defaults = Compress::default().codings;
    let level =
        |coding: Coding| defaults.iter().find(|(one, _)| *one == coding).map_or(1, |(_, level)| *level);
    let coding = |item: Value<'_>| item.choice(&CODINGS, &[]).map(|(coding, _)| (coding, level(coding)));
    Some(items.into_iter().filter_map(coding).collect())
}

fn levels(value: Value<'_>, codings: &mut [(Coding, u32)]) -> Option<()> {
    let mut table = value.table(&LEVELS, "level = { gzip = 5 }")?;
    for (name, (coding, most)) in CODINGS {
        let level = table.optional(name, integer(1..=most));
        if let Some((level, (_, place))) = level.zip(codings.iter_mut().find(|(one, _)| *one == coding)) {
            *place = level;
        }
    }
    table.finish();
    Some(())
}

fn types(value: Value<'_>) -> Option<Vec<String>> {
    let example = "types = [\"text/*\", \"application/json\"]";
    let kind = |item: Value<'_>| {
        let text = item.string(example)?;
        let is_type =
            text.split_once('/').is_some_and(|(family, kind)| !family.is_empty() && !kind.is_empty());
        let bare = text.strip_suffix('*').unwrap_or(text);
        if !is_type || bare.contains(['*', ';', ' ']) {
            let problem =
                Problem::new(format!("{} is not a type of content", show(text)), "needs `family/kind`");
            item.error(problem.help(format!("write for example `{example}`")));
            return None;
        }
        Some(text.to_ascii_lowercase())
    };
    Some(value.list(example)?.into_iter().filter_map(kind).collect())
}
