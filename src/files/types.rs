//! `Content-Type` by file name extension.

use std::path::Path;

use http::HeaderValue;

/// Types that Galaxy's users download and that common tables lack or define otherwise.
const OURS: [(&str, &str); 12] = [
    ("bai", "application/octet-stream"),
    ("bam", "application/octet-stream"),
    ("bigbed", "application/octet-stream"),
    ("bigwig", "application/octet-stream"),
    ("bw", "application/octet-stream"),
    ("fa", "text/plain"),
    ("fasta", "text/plain"),
    ("fastq", "text/plain"),
    ("ico", "image/x-icon"),
    ("mjs", "text/javascript"),
    ("vcf", "text/plain"),
    ("wasm", "application/wasm"),
];

/// Content type of a file: `known` types first, `application/octet-stream` if the name has no known extension.
pub fn content_type(path: &Path, known: &[(String, HeaderValue)]) -> HeaderValue {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // Of `vcf.gz` and `gz`, the longer extension is more specific.
    let ends = |ending: &str| {
        let start = name.len().checked_sub(ending.len() + 1);
        let end = start.and_then(|start| name.get(start..));
        end.is_some_and(|end| end.starts_with('.') && end[1..].eq_ignore_ascii_case(ending))
    };
    let fitting = known.iter().filter(|(ending, _)| ends(ending)).max_by_key(|(ending, _)| ending.len());
    if let Some((_, kind)) = fitting {
        return kind.clone();
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let ours = OURS.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    let kind = ours.map(|(_, kind)| *kind).or_else(|| mime_guess::from_ext(extension).first_raw());
    let kind = kind.unwrap_or("application/octet-stream");
    if needs_charset(kind) {
        HeaderValue::from_str(&format!("{kind}; charset=utf-8"))
            .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
    } else {
        HeaderValue::from_static(kind)
    }
}

/// Whether the type is text that browsers show; files of a web application are UTF-8.
fn needs_charset(kind: &str) -> bool {
    matches!(kind, "text/html" | "text/css" | "text/javascript" | "text/plain" | "text/xml" | "text/markdown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name() {
        for (name, kind) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.CSS", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.wasm", "application/wasm"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("favicon.ico", "image/x-icon"),
            ("reads.bam", "application/octet-stream"),
            ("noextension", "application/octet-stream"),
            ("a.unknown-extension", "application/octet-stream"),
        ] {
            assert_eq!(content_type(Path::new(name), &[]), kind, "{name}");
        }
    }

    #[test]
    fn what_a_route_knows_goes_first_and_longer_ends_before_shorter() {
        let known = [("gz", "application/gzip"), ("vcf.gz", "text/x-vcf")];
        let known = known.map(|(end, kind)| (end.to_owned(), HeaderValue::from_static(kind)));
        let kind = |name: &str| content_type(Path::new(name), &known);
        assert_eq!(kind("x.VCF.gz"), "text/x-vcf");
        assert_eq!(kind("x.tar.gz"), "application/gzip");
        assert_eq!(kind("gz"), "application/octet-stream");
        assert_eq!(kind("ü.gz"), "application/gzip");
    }
}
