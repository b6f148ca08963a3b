//! Names of members, made safe for unpacking.
//!
//! Users choose names, and a strange one must not make the whole archive unavailable: it is changed, not refused.
//! Empty and `.` segments (including a leading `/`) are removed, `..` becomes `__`, backslashes (separators on
//! Windows) and control characters become `_`. Colons stay: they are common in the names of data, and programs on
//! Windows replace them.

use std::str;

/// Encoding of names (`X-Archive-Charset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8, and marked as such. A name that is not valid UTF-8 is kept as it is, without the mark.
    #[default]
    Utf8,
    /// ISO 8859-1, converted to UTF-8.
    Latin1,
    /// The encoding of the client's system: names are kept as they are, without the UTF-8 mark.
    Native,
}

impl Charset {
    /// Parses the name of a charset; a `;` after it, as in mod_zip's syntax, is ignored. `None` for unknown charsets,
    /// which are best treated as [`Charset::Native`].
    pub fn named(name: &[u8]) -> Option<Self> {
        let name = name.trim_ascii();
        let name = name.strip_suffix(b";").unwrap_or(name).trim_ascii();
        match name.to_ascii_lowercase().as_slice() {
            b"utf-8" | b"utf8" | b"us-ascii" | b"ascii" => Some(Self::Utf8),
            b"iso-8859-1" | b"iso8859-1" | b"latin1" => Some(Self::Latin1),
            b"native" => Some(Self::Native),
            _ => None,
        }
    }

    /// Whether a name in the archive must be marked as UTF-8.
    pub(super) fn marks(self, name: &[u8]) -> bool {
        self != Self::Native && !name.is_ascii() && str::from_utf8(name).is_ok()
    }
}

/// Appends the safe form of a name to `out`, without a trailing `/`; appends nothing if nothing is left of it.
pub(super) fn clean(name: &[u8], charset: Charset, out: &mut Vec<u8>) {
    let segments = name.split(|byte| *byte == b'/').filter(|segment| !matches!(*segment, b"" | b"."));
    for (index, segment) in segments.enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        let segment = if segment == b".." { b"__" } else { segment };
        for byte in segment {
            match byte {
                b'\\' | 0x7F | 0..0x20 => out.push(b'_'),
                0x80.. if charset == Charset::Latin1 => {
                    out.extend_from_slice(char::from(*byte).encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => out.push(*byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(name: impl AsRef<[u8]>, charset: Charset) -> Vec<u8> {
        let mut out = Vec::new();
        clean(name.as_ref(), charset, &mut out);
        out
    }

    #[test]
    fn names_stay_inside() {
        for (name, safe) in [
            ("a/b c.txt", "a/b c.txt"),
            ("/etc/passwd", "etc/passwd"),
            ("//a//./b/", "a/b"),
            ("../../x", "__/__/x"),
            ("a/..", "a/__"),
            ("...", "..."),
            ("..\\..\\x", ".._.._x"),
            ("C:\\x\0y\tz\u{7f}", "C:_x_y_z_"),
            ("データ/ü", "データ/ü"),
            ("", ""),
            ("/./", ""),
        ] {
            assert_eq!(cleaned(name, Charset::Utf8), safe.as_bytes(), "{name:?}");
        }
    }

    #[test]
    fn charsets() {
        assert_eq!(cleaned(b"\xfc", Charset::Utf8), b"\xfc");
        assert_eq!(cleaned(b"\xfc", Charset::Native), b"\xfc");
        assert_eq!(cleaned(b"\xfc", Charset::Latin1), "ü".as_bytes());
        assert!(Charset::Utf8.marks("ü".as_bytes()));
        assert!(!Charset::Utf8.marks(b"u"));
        assert!(!Charset::Utf8.marks(b"\xfc"));
        assert!(!Charset::Native.marks("ü".as_bytes()));
        assert_eq!(Charset::named(b" native; "), Some(Charset::Native));
        assert_eq!(Charset::named(b"ISO-8859-1"), Some(Charset::Latin1));
        assert_eq!(Charset::named(b"UTF-8"), Some(Charset::Utf8));
        assert_eq!(Charset::named(b"cp866"), None);
    }
}
