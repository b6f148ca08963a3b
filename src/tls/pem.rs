//! Strict PEM parser (RFC 7468). A lenient parser skips malformed blocks, such as one whose first line was joined to
//! the last line of the block before it, or half a block. The owner of such a certificate believes it to be in use.

use base64::prelude::{BASE64_STANDARD, Engine as _};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Longest word outside of blocks that is treated as text, and not as a line of a block without a beginning.
const LONGEST_WORD: usize = 47;

/// Block of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PemBlock {
    /// Label, for example `CERTIFICATE`.
    pub(super) label: String,
    /// Decoded content.
    pub(super) der: Vec<u8>,
    /// Line number of its first line, from 1.
    pub(super) line: usize,
}

/// Error in a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct Bad {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Parses all blocks of a file. Text before a block is allowed (OpenSSL and CAs write names there), as are lines that
/// begin with `#`.
pub(super) fn read(text: &[u8]) -> Result<Vec<PemBlock>, Bad> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut blocks = Vec::new();
    let mut open: Option<OpenBlock> = None;
    // Line of text that no block has followed yet.
    let mut stray: Option<usize> = None;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = number + 1;
        let bad = |reason: String| Err(Bad { line: number, reason });
        let line = line.trim_ascii();
        if let Some(block) = &mut open {
            match std::str::from_utf8(line) {
                Ok(line) if line.starts_with(END) => {
                    if boundary(line, END) != Some(&block.label) {
                        let (label, first) = (&block.label, block.line);
                        return bad(format!(
                            "this line must be `{END}{label}{DASHES}` (first in line {first}) and nothing else"
                        ));
                    }
                    blocks.extend(open.take().map(OpenBlock::close).transpose()?);
                }
                Ok(line) if line.contains(DASHES) => {
                    return bad(format!("a block begins before the one from line {} ends", block.line));
                }
                Ok(line) if line.contains(':') => {
                    return bad("the block has headers, like an encrypted key: decrypt it".into());
                }
                _ => block.base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace())),
            }
            continue;
        }
        let line = String::from_utf8_lossy(line);
        match boundary(&line, BEGIN) {
            Some(label) => {
                open = Some(OpenBlock { label: label.into(), base64: Vec::new(), line: number });
                stray = None;
            }
            None if ["--BEGIN", "--END", "BEGIN CERTIFICATE"].iter().any(|mark| line.contains(mark)) => {
                return bad(format!(
                    "a line `{BEGIN}…{DASHES}` or `{END}…{DASHES}` must be complete and alone on its line"
                ));
            }
            None if line.is_empty() || line.starts_with('#') => {}
            None if line.split_whitespace().any(is_base64) => {
                return bad("base64 without the first line of its block".into());
            }
            None => stray = stray.or(Some(number)),
        }
    }
    match (open, stray) {
        (Some(OpenBlock { label, line, .. }), _) => {
            Err(Bad { line, reason: format!("this block has no `{END}{label}{DASHES}`") })
        }
        (None, Some(line)) => Err(Bad { line, reason: "unexpected text: no PEM block follows".into() }),
        (None, None) => Ok(blocks),
    }
}

/// Block whose end has not been reached.
struct OpenBlock {
    label: String,
    base64: Vec<u8>,
    line: usize,
}

impl OpenBlock {
    fn close(self) -> Result<PemBlock, Bad> {
        let Self { label, base64, line } = self;
        match BASE64_STANDARD.decode(base64) {
            Ok(der) if !der.is_empty() => Ok(PemBlock { label, der, line }),
            Ok(_) => Err(Bad { line, reason: "this block is empty".into() }),
            Err(error) => {
                Err(Bad { line, reason: format!("the block that begins here is not valid base64: {error}") })
            }
        }
    }
}

/// Label of a line that consists of one boundary.
fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    let label = line.strip_prefix(start)?.strip_suffix(DASHES)?;
    (!label.is_empty() && !label.contains(DASHES)).then_some(label)
}

/// Whether a word looks like a line of base64. Underlines of names (`====`) and digests in hexadecimal do not.
fn is_base64(word: &str) -> bool {
    let digits = word.trim_end_matches('=');
    digits.len() > LONGEST_WORD
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "-----BEGIN A-----\nAAEC\nAwQ=\n-----END A-----\n";
    const B: &str = "-----BEGIN B B-----\r\nBQY=\r\n-----END B B-----\r\n";

    fn labels(text: &str) -> Vec<String> {
        read(text.as_bytes()).unwrap().into_iter().map(|block| block.label).collect()
    }

    #[test]
    fn parts_come_with_their_lines() {
        let blocks = read(format!("\n{A}{B}").as_bytes()).unwrap();
        let block = |label: &str, der: &[u8], line| PemBlock { label: label.into(), der: der.into(), line };
        assert_eq!(blocks, [block("A", &[0, 1, 2, 3, 4], 2), block("B B", &[5, 6], 6)]);
    }

    #[test]
    fn text_may_stand_before_a_part() {
        let bag = "Bag Attributes\n    localKeyID: 01 02\nsubject=/CN=x\n";
        let named = "# The list\nSome Root CA\n============\n";
        // Formats of curl's CA bundle, of certtool, and of `openssl x509 -modulus`.
        let long = format!("Some {}\n{}\n", "Name ".repeat(17), "=".repeat(85));
        let hex = format!("SHA256:\n\t{}\nModulus={}\n", "ab12".repeat(16), "AB12".repeat(128));
        for text in ["", bag, named, "# only a comment\n", &long, &hex] {
            assert_eq!(labels(&format!("{text}{A}{text}{B}# end\n\n")), ["A", "B B"], "{text}");
        }
        assert_eq!(labels(&format!("\u{feff}{A}")), ["A"]);
        assert!(labels("\n# nothing\n").is_empty());
    }

    #[test]
    fn what_a_parser_would_skip_is_an_error_with_its_line() {
        let joined = format!("{}{B}", A.trim_end());
        let orphan = format!("{A}{}\n-----END A-----\n", "QUFB".repeat(16));
        for (text, line) in [
            (joined, 4),
            (orphan, 5),
            (format!("{A}garbage\n"), 5),
            (format!("{A}{B}\n\nx"), 10),
            (format!("{A}-----BEGIN A-----\nAAEC\n"), 5),
            (format!("{A}-----BEGIN A-----\nAAEC\n{B}"), 7),
            (format!("{A}-----END A-----\n"), 5),
            (A.replace("END A", "END B"), 4),
            (A.replace("END A-----", "END A-----x"), 4),
            (A.replace("END A-----", "END A----"), 4),
            (A.replace("BEGIN A-----", "BEGIN A----"), 1),
            (A.replace("-----BEGIN", "x-----BEGIN"), 1),
            (format!("{A}{}", A.replace("-----BEGIN", "----BEGIN")), 5),
            (A.replace("AAEC", "A*EC"), 1),
            (A.replace("AwQ=", "AwQ"), 1),
            (A.replace("AAEC", "Proc-Type: 4,ENCRYPTED"), 2),
            ("-----BEGIN A-----\n-----END A-----\n".into(), 1),
        ] {
            let bad = read(text.as_bytes()).unwrap_err();
            assert_eq!(bad.line, line, "{bad}\n{text}");
        }
    }
}
