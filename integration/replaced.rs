//! Files in whose places others are, of the same size and time (as of images built with SOURCE_DATE_EPOCH).

use std::{
    fs::File,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::fixtures::{Answer, Backend, Proxy, Request, Scratch, ms, pass};

const SIZE: usize = 100_000;

const SITE: &str = r#"
[[site]]
compress = true
[site.routes]
"/" = { proxy = "app" }
"/static" = { files = "@DATA@", headers = { x-kind = "static" } }
"/tagged" = { files = "@DATA@", headers = { etag = "\"always the same\"" } }
"/_x" = { files = "/", internal = true, within = ["@DATA@"] }
[upstream.app]
servers = ["@APP@"]
"#;

/// Writes a file of one letter with a time that is always the same.
fn write(path: &Path, letter: &str, modified: SystemTime) {
    std::fs::write(path, letter.repeat(SIZE)).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// A folder with `page.txt`, an application that hands it over at `/accel`, and the proxy.
struct Site {
    scratch: Scratch,
    proxy: Proxy,
    _app: Backend,
}

impl Site {
    async fn start() -> Self {
        let scratch = Scratch::new();
        write(&scratch.path("page.txt"), "a", long_ago());
        // What has only just been written is not kept in a coding.
        pass(ms(100)).await;
        let path = scratch.path("page.txt").display().to_string();
        let app = Backend::answering(move |_| {
            format!(
                "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_x{path}\r\nContent-Type: text/plain\r\n\
                 Content-Length: 0\r\n\r\n"
            )
            .into_bytes()
        })
        .await;
        let proxy = Proxy::toml(SITE).fill("DATA", scratch.root().display()).fill("APP", app.address());
        Self { proxy: proxy.start().await, scratch, _app: app }
    }

    /// The letter that the file consists of.
    async fn letter(&self, path: &str, coding: &str) -> (char, Answer) {
        let answer = self.proxy.get(path).header("accept-encoding", coding).await.expect(200);
        let mut text = answer.body.to_vec();
        if coding == "gzip" {
            assert_eq!(answer.header("content-encoding"), "gzip");
            text.clear();
            let mut reader = flate2::read::GzDecoder::new(&answer.body[..]);
            std::io::Read::read_to_end(&mut reader, &mut text).unwrap();
        }
        assert_eq!(text.len(), SIZE);
        (char::from(text[0]), answer)
    }

    async fn is_never_stale(&self, replace: impl Fn(&Path, &str)) {
        for path in ["/static/page.txt", "/accel"] {
            let (mut old, before) = self.letter(path, "identity").await;
            for coding in ["gzip", "identity"] {
                for target in [path, "/tagged/page.txt"] {
                    assert_eq!(self.letter(target, coding).await.0, old, "{target} {coding}");
                }
            }
            let new = if old == 'a' { "b" } else { "a" };
            replace(&self.scratch.path("page.txt"), new);
            old = new.chars().next().unwrap();
            let tag = before.header("etag");
            let ask = |name: &str, value: &str| -> Request { self.proxy.get(path).header(name, value) };
            let has = ask("if-none-match", &tag).await.expect(200);
            assert_eq!((char::from(has.body[0]), has.header("etag") != tag), (old, true), "{path}");
            let whole = ask("range", "bytes=0-9").header("if-range", &tag).await.expect(200);
            assert_eq!((char::from(whole.body[0]), whole.body.len()), (old, SIZE), "{path}");
            for coding in ["gzip", "identity"] {
                for target in [path, "/tagged/page.txt"] {
                    assert_eq!(self.letter(target, coding).await.0, old, "{target} {coding}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_file_renamed_into_the_place_of_another_is_another() {
    let site = Site::start().await;
    site.is_never_stale(|path, letter| {
        let new = path.with_extension("new");
        write(&new, letter, long_ago());
        std::fs::rename(new, path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_written_over_with_its_time_set_back_is_another() {
    let site = Site::start().await;
    site.is_never_stale(|path, letter| write(path, letter, long_ago())).await;
}

#[tokio::test]
async fn a_time_to_come_is_not_told_and_proves_nothing() {
    let site = Site::start().await;
    write(&site.scratch.path("page.txt"), "a", SystemTime::now() + Duration::from_secs(86_400));
    for path in ["/static/page.txt", "/accel"] {
        let answer = site.proxy.get(path).await.expect(200);
        let date = |name: &str| httpdate::parse_http_date(&answer.header(name)).unwrap();
        assert!(date("last-modified") <= date("date"), "{answer:?}");
        let modified = answer.header("last-modified");
        site.proxy.get(path).header("if-modified-since", &modified).await.expect(200);
        site.proxy.get(path).header("if-unmodified-since", &modified).await.expect(200);
        let whole = site.proxy.get(path).header("if-range", &modified).header("range", "bytes=0-9").await;
        assert_eq!(whole.expect(200).body.len(), SIZE);
    }
}
