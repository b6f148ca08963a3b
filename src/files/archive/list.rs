//! List of an archive's members, in the format of nginx's mod_zip.
//!
//! One member per line; lines end with `
//! ` or `\r
//! `, and empty lines are ignored:
//!
//! ```text
//! 1034ab38 428 /data/000/dataset_1.dat My data/first.txt
//! -        428 /data/000/dataset%202.dat?query My data/second.txt
//! 0        0   @directory My data/empty
//! ```
//!
//! The columns are the CRC-32 in hex or `-`, the size in bytes or `-` (mod_zip requires a size), the percent-encoded path
//! of an internal route with or without a query, and the name, which extends to the end of the line. `+` in a path is a
//! plus, as in every path of a URL (mod_zip decodes it to a space). A name may be listed twice: the archive then holds it
//! twice, like mod_zip's.

use std::{borrow::Cow, str};

use percent_encoding::percent_decode;

use super::names::{self, Charset};

/// Most members. A million names and paths take some 200 MiB, and nobody unpacks more at once.
pub const MOST_MEMBERS: usize = 1_000_000;

/// Most bytes of a line: a path of 4096 bytes (the longest on Linux), each of them percent-encoded, and a name of the
/// same length.
pub const MOST_LINE: usize = 32 * 1024;

/// Most bytes of a list: [`MOST_MEMBERS`] with long names and paths. The list is held in memory while it is read.
pub const MOST_LIST: usize = 256 * 1024 * 1024;

/// Path of a member that is a directory.
const DIRECTORY: &[u8] = b"@directory";

/// A parsed list. Its texts share one allocation, because there may be a million members.
#[derive(Debug, Default)]
pub struct MemberList {
    /// Targets and names of all members; the name of each follows its target.
    pub(super) text: Vec<u8>,
    pub(super) lines: Vec<ListLine>,
}

/// A member as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListLine {
    /// Offset of its target in [`MemberList::text`].
    pub(super) at: u32,
    /// Length of its target in bytes; 0 for a directory.
    pub(super) target: u16,
    /// Length of its name in bytes.
    pub(super) name: u16,
    /// CRC-32, if listed.
    pub(super) crc: Option<u32>,
    /// Size in bytes, if listed.
    pub(super) size: Option<u64>,
    /// Line number, from 1.
    pub(super) number: u32,
}

impl ListLine {
    /// Target, as listed.
    pub(super) fn target<'text>(&self, text: &'text [u8]) -> &'text [u8] {
        let at = self.at as usize;
        &text[at..at + usize::from(self.target)]
    }

    /// Name, made safe.
    pub(super) fn name<'text>(&self, text: &'text [u8]) -> &'text [u8] {
        let at = self.at as usize + usize::from(self.target);
        &text[at..at + usize::from(self.name)]
    }
}

/// Error of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A line is malformed.
    #[error("line {line} of the archive's list {problem}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// Error in the line.
        problem: ListProblem,
    },
    /// The list has more than [`MOST_MEMBERS`] members.
    #[error("the archive's list has more than {MOST_MEMBERS} members")]
    TooMany,
    /// The list has more than [`MOST_LIST`] bytes.
    #[error("the archive's list is longer than {MOST_LIST} bytes")]
    TooLong,
}

/// Error of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListProblem {
    /// The line has more than [`MOST_LINE`] bytes.
    #[error("is longer than {MOST_LINE} bytes")]
    TooLong,
    /// Invalid CRC (first column).
    #[error("does not begin with a CRC-32 (up to eight hex digits) or -")]
    Crc,
    /// Invalid size (second column).
    #[error("has no size in bytes, or -, after the CRC-32")]
    Size,
    /// Invalid path (third column).
    #[error("has no path that begins with / after the size")]
    Path,
    /// The decoded path is not UTF-8.
    #[error("has a path that is not UTF-8 or has a NUL in it")]
    PathText,
    /// Invalid name (last column).
    #[error("has no name after the path, or nothing is left of it when it is made safe")]
    Name,
}

impl MemberList {
    /// Parses a list whose names are in `charset`.
    ///
    /// # Errors
    ///
    /// See [`ListError`].
    pub fn parse(list: &[u8], charset: Charset) -> Result<Self, ListError> {
        if list.len() > MOST_LIST {
            return Err(ListError::TooLong);
        }
        let mut parsed = Self::default();
        for (index, line) in list.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() {
                continue;
            }
            if parsed.lines.len() == MOST_MEMBERS {
                return Err(ListError::TooMany);
            }
            parsed
                .take(line, index + 1, charset)
                .map_err(|problem| ListError::Line { line: index + 1, problem })?;
        }
        Ok(parsed)
    }

    fn take(&mut self, line: &[u8], number: usize, charset: Charset) -> Result<(), ListProblem> {
        if line.len() > MOST_LINE {
            return Err(ListProblem::TooLong);
        }
        let (crc, rest) = word(line);
        let crc = crc_32(crc).ok_or(ListProblem::Crc)?;
        let (size, rest) = word(rest);
        let size = bytes(size).ok_or(ListProblem::Size)?;
        let (target, name) = word(rest);
        let is_directory = target == DIRECTORY;
        if !is_directory {
            if !target.starts_with(b"/") {
                return Err(ListProblem::Path);
            }
            path(target).ok_or(ListProblem::PathText)?;
        }
        let target = if is_directory { &[] } else { target };
        let at = self.text.len();
        self.text.extend_from_slice(target);
        names::clean(name, charset, &mut self.text);
        if is_directory && self.text.len() > at {
            self.text.push(b'/');
        }
        let name = self.text.len() - at - target.len();
        if name == 0 {
            // The root of the archive needs no entry.
            return if is_directory && !name_is_missing(rest) { Ok(()) } else { Err(ListProblem::Name) };
        }
        // A line of 32 KiB gives at most twice as much text (Latin-1), and all lines at most 512 MiB.
        let short = |length: usize| u16::try_from(length).map_err(|_| ListProblem::TooLong);
        let line = ListLine {
            at: u32::try_from(at).map_err(|_| ListProblem::TooLong)?,
            target: short(target.len())?,
            name: short(name)?,
            crc,
            size,
            number: u32::try_from(number).unwrap_or(u32::MAX),
        };
        self.lines.push(line);
        Ok(())
    }
}

/// Whether nothing follows the third column.
fn name_is_missing(rest: &[u8]) -> bool {
    word(rest).1.is_empty()
}

/// Splits off the first word and the spaces after it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_ascii_start())
}

/// Parses hex digits; `Some(None)` for `-`.
fn crc_32(word: &[u8]) -> Option<Option<u32>> {
    if word == b"-" {
        return Some(None);
    }
    // `from_str_radix` would accept a sign too.
    let is_hex = word.iter().all(u8::is_ascii_hexdigit) && word.len() <= 8;
    u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok().filter(|_| is_hex).map(Some)
}

/// Parses decimal digits; `Some(None)` for `-`.
fn bytes(word: &[u8]) -> Option<Option<u64>> {
    if word == b"-" {
        return Some(None);
    }
    let is_number = word.iter().all(u8::is_ascii_digit);
    str::from_utf8(word).ok()?.parse().ok().filter(|_| is_number).map(Some)
}

/// Path of a target, decoded and without its query; `None` if it is not UTF-8.
pub(super) fn path(target: &[u8]) -> Option<Cow<'_, str>> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    percent_decode(&target[..end]).decode_utf8().ok().filter(|path| !path.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Member = (Option<u32>, Option<u64>, String, Vec<u8>);

    fn parse(list: impl AsRef<[u8]>) -> Result<Vec<Member>, ListError> {
        let list = MemberList::parse(list.as_ref(), Charset::Utf8)?;
        let member = |line: &ListLine| {
            let path = path(line.target(&list.text)).unwrap().into_owned();
            (line.crc, line.size, path, line.name(&list.text).to_vec())
        };
        Ok(list.lines.iter().map(member).collect())
    }

    fn member(crc: Option<u32>, size: u64, path: &str, name: &str) -> Member {
        (crc, Some(size), path.into(), name.into())
    }

    #[test]
    fn what_galaxy_and_mod_zips_own_tests_write() {
        let list = "0 0 @directory My data\n- 5 /data/0/dataset_1.dat My data/a.txt\n5d7 1450 /data/%C3%BC%20%2B+.dat My  data/ü b.txt";
        let members = [
            member(Some(0), 0, "", "My data/"),
            member(None, 5, "/data/0/dataset_1.dat", "My data/a.txt"),
            member(Some(0x5d7), 1450, "/data/ü ++.dat", "My  data/ü b.txt"),
        ];
        assert_eq!(parse(list).unwrap(), members);
        let spaced = "1A6349c5 24    /file1.txt?a=b   file 1.txt\r\n-        0  @directory dir/\r\n\r\n";
        let members =
            [member(Some(0x1a63_49c5), 24, "/file1.txt", "file 1.txt"), member(None, 0, "", "dir/")];
        assert_eq!(parse(spaced).unwrap(), members);
    }

    #[test]
    fn nothing_is_a_list() {
        for list in ["", "\n", "\r\n\r\n", "0 0 @directory .\n", "0 0 @directory /"] {
            assert_eq!(parse(list), Ok(vec![]), "{list:?}");
        }
    }

    #[test]
    fn a_size_may_be_unknown() {
        assert_eq!(parse("- - /a a").unwrap(), [(None, None, "/a".into(), b"a".to_vec())]);
    }

    #[test]
    fn bad_lines_are_named() {
        let problem = |line: &str| match parse(format!("0 0 @directory a\n\n{line}\n- 1 /b b")) {
            Err(ListError::Line { line: 3, problem }) => problem,
            other => panic!("{line:?}: {other:?}"),
        };
        for line in ["x 1 /a a", "123456789 1 /a a", "+1 1 /a a", "--", "<html>"] {
            assert_eq!(problem(line), ListProblem::Crc, "{line}");
        }
        for line in ["-", "- x /a a", "- +1 /a a", "- -1 /a a", "- 99999999999999999999 /a a"] {
            assert_eq!(problem(line), ListProblem::Size, "{line}");
        }
        for line in ["- 1", "- 1 a a", "- 1 @dir a", "- 1 ../a a"] {
            assert_eq!(problem(line), ListProblem::Path, "{line}");
        }
        for line in ["- 1 /%00 a", "- 1 /%FF a"] {
            assert_eq!(problem(line), ListProblem::PathText, "{line}");
        }
        for line in ["- 1 /a", "- 1 /a /", "- 1 /a .", "0 0 @directory"] {
            assert_eq!(problem(line), ListProblem::Name, "{line}");
        }
        assert_eq!(problem(&format!("- 1 /a {}", "n".repeat(MOST_LINE))), ListProblem::TooLong);
        let error = parse("- 1 /a a\nx").unwrap_err().to_string();
        assert_eq!(
            error,
            "line 2 of the archive's list does not begin with a CRC-32 (up to eight hex digits) or -"
        );
    }

    #[test]
    fn there_is_an_end() {
        assert_eq!(parse("0 0 @directory a\n".repeat(MOST_MEMBERS + 1)), Err(ListError::TooMany));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_bytes_are_too_much(list in prop::collection::vec(any::<u8>(), 0..300), native: bool) {
            let _ = MemberList::parse(&list, if native { Charset::Native } else { Charset::Latin1 });
        }

        #[test]
        fn lines_that_are_nearly_right_are_no_trouble_either(
            words in prop::collection::vec("(-|[0-9a-g]{1,9}|/[%a-f0-9?]{0,6}|@directory|[./ü\\\\\0\r]{0,5}|\n| )", 0..16),
            space in "[ \n]",
        ) {
            if let Ok(members) = parse(words.join(&space)) {
                for (_, _, _, name) in members {
                    let name = String::from_utf8(name).unwrap();
                    prop_assert!(!name.starts_with('/') && !name.contains(['\\', '\0', '\r', '\n']), "{:?}", name);
                    let name = name.strip_suffix('/').unwrap_or(&name);
                    prop_assert!(name.split('/').all(|part| !["", ".", ".."].contains(&part)), "{:?}", name);
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            crc: Option<u32>, size: u64, path in "/[a-z%ü ?+]{0,20}", name in "[a-zü]([a-zü ]{0,9}[a-zü])?(/[a-z])?",
        ) {
            let quoted = percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC);
            let quoted = quoted.to_string().replace("%2F", "/");
            let line = format!("{} {size} {quoted} {name}\n", crc.map_or("-".into(), |crc| format!("{crc:x}")));
            prop_assert_eq!(parse(line).unwrap(), vec![member(crc, size, &path, &name)]);
        }
    }
}
