//! The names of members, made safe for whoever unpacks the archive.
//!
//! Users name things, so a strange name must not keep everybody from the archive: it is changed, not refused. Empty and
//! `.` segments (a leading `/` among them) go, `..` becomes `__`, backslashes (separators on Windows) and control
//! characters become `_`. Colons stay: they are common in the names of data, and programs on Windows replace them.

use std::str;

/// What the bytes of names mean (`X-Archive-Charset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8, and the archive says so; a name that is not UTF-8 is kept as it is, and the archive says nothing of it.
    #[default]
    Utf8,
    /// ISO 8859-1, made UTF-8.
    Latin1,
    /// Whatever the client's system takes them for: kept as they are, and the archive does not call them UTF-8.
    Native,
}

impl Charset {
    /// The charset of a name (a `;` behind it is mod_zip's own way of writing it); `None` for those that are not known
    /// here, whose names are best taken as [`Charset::Native`].
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

    /// Whether a name of an archive must be marked as UTF-8.
    pub(super) fn marks(self, name: &[u8]) -> bool {
        self != Self::Native && !name.is_ascii() && str::from_utf8(name).is_ok()
    }
}

/// Appends the safe form of a name to `out`, without a `/` at its end; nothing when nothing is left of it.
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
