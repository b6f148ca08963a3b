//! What cargo-fuzz calls with bytes of its own invention: must not panic, and must hold what is asserted.

use std::path::Path;

use http::HeaderValue;

use crate::{
    config::{Files, Part, Template},
    files::{self, archive, range::Range},
    route::{By, normalize},
};

/// No path leads above the directory that it is looked for in.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(path) = normalize(text) else { return };
    assert!(path.starts_with('/') && !path.contains('\0'), "{path:?}");
    assert!(path.split('/').all(|segment| segment != ".." && segment != "."), "{path:?}");
    let root = Template(vec![Part::Text("/srv/root".into())]);
    let files = Files { root, index: vec!["index.html".into()], ..Files::default() };
    let accelerated = files::accelerated::named(&files, text);
    for wanted in files::wanted(&files, &By::Prefix(&path)).into_iter().chain(accelerated) {
        for candidate in &wanted.candidates {
            assert!(candidate.starts_with(Path::new("/srv")), "{candidate:?}");
            assert!(
                candidate.components().all(|part| part != std::path::Component::ParentDir),
                "{candidate:?}"
            );
        }
    }
}

/// Parts are within the whole, and no byte is sent twice.
pub fn range(bytes: &[u8]) {
    let Some((size, value)) = bytes.split_first_chunk() else { return };
    let (size, value) = (u64::from_le_bytes(*size), HeaderValue::from_bytes(value).ok());
    let Range::Parts(mut spans) = Range::parse(value.as_ref(), size) else { return };
    spans.sort_by_key(|span| span.start);
    assert!(!spans.is_empty() && spans.iter().all(|span| span.length > 0 && span.end() <= size), "{spans:?}");
    assert!(spans.windows(2).all(|pair| pair[0].end() <= pair[1].start), "{spans:?}");
}

/// A list is read, or refused.
pub fn archive_list(bytes: &[u8]) {
    archive::read_list(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What cargo-fuzz has found worth keeping: inputs that take new ways through the code.
    fn replay(target: &str, call: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs = 0;
        for entry in fs::read_dir(corpus).unwrap() {
            call(&fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 100, "{inputs} inputs for {target}");
    }

    #[test]
    fn what_was_found_once_does_no_harm() {
        replay("path", path);
        replay("range", range);
        replay("archive_list", archive_list);
    }
}
