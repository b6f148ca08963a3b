//! Directory listings, as HTML or as JSON.

use std::{ffi::OsStr, fmt::Write as _, fs, io, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use http::{HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;

use super::{
    beneath::{self, RefusedPath},
    open::{FileRequest, Missing, is_http_date, names_no_file},
};
use crate::response::{Response, escape};

/// Most entries shown; nobody reads a longer page.
const MOST: usize = 10_000;

/// Characters that are encoded in a segment of a URL: all but those of RFC 3986 §2.3.
const SEGMENT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Entries of a directory.
#[derive(Debug)]
pub struct Listing {
    entries: Vec<ListingEntry>,
    /// Whether entries were left out.
    cut: bool,
}

#[derive(Debug)]
struct ListingEntry {
    name: Vec<u8>,
    /// Size in bytes; `None` for directories.
    size: Option<u64>,
    modified: SystemTime,
}

/// Order of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SortKey {
    Name,
    Size,
    Date,
}

impl SortKey {
    const ALL: [(&'static str, &'static str, Self); 3] =
        [("name", "Name", Self::Name), ("size", "Size", Self::Size), ("date", "Date", Self::Date)];
}

/// Reads the requested directory. Blocks on the file system: not for the event loop.
///
/// Hidden entries are left out, as are those that could not be fetched: symlinks that lead where nothing may be sent
/// from, sockets, devices.
///
/// # Errors
///
/// See [`Missing`].
pub fn read(directory: &Path, wanted: &FileRequest) -> Result<Listing, Missing> {
    let failed = |error: io::Error| match names_no_file(&error) {
        true => Missing::NotFound(directory.into()),
        false => Missing::Unreadable { path: directory.into(), source: error },
    };
    let allowed = |path: &Path| beneath::open(path, &wanted.within, wanted.symlinks);
    let opened = allowed(directory).map_err(|refused| match refused {
        RefusedPath::System(error) => failed(error),
        RefusedPath::Outside(real) => {
            Missing::Outside { path: directory.into(), real, within: wanted.within.clone() }
        }
    })?;
    if !opened.metadata().map_err(failed)?.is_dir() {
        return Err(Missing::NotFound(directory.into()));
    }
    let mut entries = Vec::new();
    let mut cut = false;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if entries.len() == MOST {
            cut = true;
            break;
        }
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let metadata = match is_link {
            true => allowed(&entry.path()).ok().and_then(|file| file.metadata().ok()),
            false => entry.metadata().ok(),
        };
        let Some(metadata) = metadata.filter(|metadata| metadata.is_dir() || metadata.is_file()) else {
            continue;
        };
        let size = metadata.is_file().then_some(metadata.len());
        // Dates before 1970 and after 9999 cannot be written; some archives leave such files behind.
        let modified = metadata.modified().ok().filter(|time| is_http_date(*time));
        let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        entries.push(ListingEntry { name: name.as_bytes().to_vec(), size, modified });
    }
    Ok(Listing { entries, cut })
}

/// Builds the response with the listing of the directory at the URL `path`, sorted as the query says. Takes time for
/// a large directory: not for the event loop.
pub fn answer(mut listing: Listing, path: &str, query: &str, as_json: bool) -> Response {
    let word = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let key = SortKey::ALL
        .iter()
        .find(|(text, ..)| word("sort") == Some(text))
        .map_or(SortKey::Name, |(.., key)| *key);
    let descending = word("order") == Some("desc");
    listing.sort(key, descending);
    let response = if as_json {
        Response::json(StatusCode::OK, &listing.json())
    } else {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        Response::text(StatusCode::OK, html, listing.page(path, key, descending))
    };
    response.with(header::VARY, HeaderValue::from_static("Accept"))
}

impl Listing {
    /// Sorts the entries, with directories first in any order.
    fn sort(&mut self, key: SortKey, descending: bool) {
        self.entries.sort_by(|a, b| {
            let by_name = || a.name.cmp(&b.name);
            let order = match key {
                SortKey::Name => by_name(),
                SortKey::Size => a.size.cmp(&b.size).then_with(by_name),
                SortKey::Date => a.modified.cmp(&b.modified).then_with(by_name),
            };
            let order = if descending { order.reverse() } else { order };
            a.size.is_some().cmp(&b.size.is_some()).then(order)
        });
    }

    /// Entries in the format of nginx's `autoindex_format json`.
    fn json(&self) -> serde_json::Value {
        let entry = |entry: &ListingEntry| {
            let name = String::from_utf8_lossy(&entry.name);
            let mtime = httpdate::fmt_http_date(entry.modified);
            match entry.size {
                Some(size) => json!({ "name": name, "type": "file", "mtime": mtime, "size": size }),
                None => json!({ "name": name, "type": "directory", "mtime": mtime }),
            }
        };
        self.entries.iter().map(entry).collect()
    }

    fn page(&self, path: &str, key: SortKey, descending: bool) -> String {
        let title = escape(path);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>body{{font:1rem/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}\
             h1{{font-size:1.3rem;overflow-wrap:anywhere}}table{{width:100%;border-collapse:collapse}}\
             th{{text-align:left}}td,th{{padding:.2rem .6rem .2rem 0}}tr+tr td{{border-top:1px solid #eee}}\
             td:first-child{{overflow-wrap:anywhere}}td+td,th+th{{text-align:right;white-space:nowrap}}\
             a{{color:#25537b;text-decoration:none}}a:hover{{text-decoration:underline}}\
             @media(max-width:32rem){{td+td+td,th+th+th{{display:none}}}}</style>\n<h1>{title}</h1>\n<table>\n<tr>"
        );
        for (word, heading, one) in SortKey::ALL {
            let order = if one == key && !descending { "desc" } else { "asc" };
            let mark = match (one == key, descending) {
                (true, false) => " ↑",
                (true, true) => " ↓",
                (false, _) => "",
            };
            // Writing to a string does not fail.
            let _ = write!(page, "<th><a href=\"?sort={word}&amp;order={order}\">{heading}</a>{mark}</th>");
        }
        page.push_str("</tr>\n");
        if path.trim_end_matches('/').contains('/') || path.len() > 1 {
            page.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
        }
        for entry in &self.entries {
            let slash = if entry.size.is_none() { "/" } else { "" };
            let href = percent_encode(&entry.name, &SEGMENT);
            let name = escape(&OsStr::from_bytes(&entry.name).to_string_lossy());
            let size = entry.size.map(human).unwrap_or_default();
            let date = humantime::format_rfc3339_seconds(entry.modified).to_string();
            let date = date.get(..16).unwrap_or_default().replace('T', " ");
            // `./` keeps a name with a colon from being read as a scheme.
            let _ = writeln!(
                page,
                "<tr><td><a href=\"./{href}{slash}\">{name}{slash}</a></td><td>{size}</td><td>{date}</td></tr>"
            );
        }
        page.push_str("</table>\n");
        if self.cut {
            let _ = writeln!(page, "<p>Only the first {MOST} entries are shown.</p>");
        }
        page + "</html>\n"
    }
}

/// Size for people: 1.5 MiB.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    fn listing() -> (tempfile::TempDir, Listing) {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join("root").join(name);
        fs::create_dir_all(at("folder")).unwrap();
        fs::write(at("b & <i>.txt"), "four").unwrap();
        fs::write(at("a:b"), vec![0; 2048]).unwrap();
        fs::write(at(".hidden"), "").unwrap();
        fs::write(tree.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink(tree.path().join("secret"), at("out")).unwrap();
        std::os::unix::fs::symlink("a:b", at("in")).unwrap();
        let file = fs::File::options().write(true).open(at("a:b")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)).unwrap();
        let root: PathBuf = tree.path().join("root");
        let wanted = FileRequest::first_of(Vec::new(), vec![root.clone()]);
        let listing = read(&root, &wanted).unwrap();
        (tree, listing)
    }

    fn names(listing: &Listing) -> Vec<String> {
        listing.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
    }

    #[test]
    fn what_may_be_fetched_is_listed_and_sorted() {
        let (_tree, mut listing) = listing();
        listing.sort(SortKey::Name, false);
        assert_eq!(names(&listing), ["folder", "a:b", "b & <i>.txt", "in"]);
        listing.sort(SortKey::Size, true);
        assert_eq!(names(&listing), ["folder", "in", "a:b", "b & <i>.txt"]);
        listing.sort(SortKey::Date, false);
        assert_eq!(names(&listing), ["folder", "a:b", "in", "b & <i>.txt"]);
    }

    #[test]
    fn dates_that_cannot_be_written_are_shown_as_the_first() {
        let tree = tempfile::tempdir().unwrap();
        for (name, modified) in [
            ("early", SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            ("late", SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)),
        ] {
            // Not every file system can store such a date.
            let _ = fs::File::create(tree.path().join(name)).unwrap().set_modified(modified);
        }
        let listing =
            read(tree.path(), &FileRequest::first_of(Vec::new(), vec![tree.path().into()])).unwrap();
        assert_eq!(listing.json().as_array().unwrap().len(), 2);
        assert!(listing.page("/", SortKey::Name, false).contains("<td>1970-01-01 00:00</td>"));
    }

    #[test]
    fn names_can_do_no_harm_in_the_page() {
        let (_tree, listing) = listing();
        let page = listing.page("/data/<x>/", SortKey::Name, false);
        assert!(page.contains("href=\"./b%20%26%20%3Ci%3E.txt\">b &amp; &lt;i&gt;.txt</a>"), "{page}");
        assert!(
            page.contains("href=\"./a%3Ab\">a:b</a></td><td>2.0 KiB</td><td>1970-01-02 00:00</td>"),
            "{page}"
        );
        assert!(page.contains("<h1>/data/&lt;x&gt;/</h1>"), "{page}");
        assert!(page.contains("href=\"./folder/\">folder/</a>"), "{page}");
    }

    #[test]
    fn sizes_for_people() {
        let sizes = [0, 1023, 1024, 1536, 1_048_575, 5 << 30].map(human);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 GiB"]);
    }
}
