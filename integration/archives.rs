//! Archives: the application sends a list of files, the client gets a zip of them.

use std::process::Command;

use crate::fixtures::{Answer, Backend, Proxy, Scratch, eventually, ms, noise, pass, run};

/// An application that answers `/zip` with a list, and the proxy in front.
struct Site {
    scratch: Scratch,
    proxy: Proxy,
    _app: Backend,
}

impl Site {
    /// `list` is the list, `@DATA@` in it being the folder of the files; `more` are further fields of the answer.
    async fn listing(list: &str, more: &'static str) -> Self {
        let scratch = Scratch::new();
        scratch.write("data/a.txt", "the first");
        scratch.write("data/b.bin", noise(300_000));
        // What has only just been written may change again without a new time: its CRC is not remembered.
        pass(ms(50)).await;
        let list = list.replace("@DATA@", &format!("/_x{}", scratch.path("data").display()));
        let app = Backend::answering(move |_| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Archive-Files: zip\r\n{more}Content-Disposition: attachment; \
                 filename=\"all.zip\"\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{list}",
                list.len()
            );
            head.into_bytes()
        })
        .await;
        let proxy = Proxy::handing_over(&scratch.path("data"), &app).start().await;
        Self { scratch, proxy, _app: app }
    }

    /// What `unzip -t` says of an answer.
    fn judge(&self, answer: &Answer) -> bool {
        let path = self.scratch.write("got.zip", &answer.body);
        run(Command::new("unzip").arg("-tqq").arg(path)).0 == Some(0)
    }
}

const LIST: &str =
    "- 9 @DATA@/a.txt folder/the first.txt\n- 300000 @DATA@/b.bin b.bin\n0 0 @directory empty\n";

#[tokio::test]
async fn a_list_becomes_an_archive_of_known_length() {
    let site = Site::listing(LIST, "X-Accel-Buffering: no\r\n").await;
    let answer = site.proxy.get("/zip").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/zip");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"all.zip\"");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!((answer.header("x-archive-files"), answer.header("x-accel-buffering")), Default::default());
    assert!(!answer.header("x-request-id").is_empty());
    assert!(site.judge(&answer));
    let again = site.proxy.get("/zip").await.expect(200);
    assert!(again.body == answer.body, "the same bytes");
    assert_eq!(again.header("accept-ranges"), "bytes", "its CRCs are known now");
    let range = site.proxy.get("/zip").header("range", "bytes=1000-200999").await.expect(206);
    assert!(range.body == answer.body[1000..201_000]);
    eventually("nothing is in flight", async || site.proxy.inflight().await == [0]).await;
    // The client has the last byte a moment before it is counted.
    eventually("all bytes are counted", async || {
        let sent = site.proxy.metrics().await.sum("bowshock_response_bytes_total", &["how=\"archive\""]);
        sent > 800_000.0
    })
    .await;
}

#[tokio::test]
async fn curl_goes_on_where_it_was_interrupted() {
    let site = Site::listing(LIST, "").await;
    let whole = site.proxy.get("/zip").await.expect(200);
    let part = site.scratch.write("part.zip", &whole.body[..123_456]);
    let address = site.proxy.status().await["listeners"][0]["address"].as_str().unwrap().to_owned();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "-C", "-", "-o"]).arg(&part).arg(format!("http://{address}/zip"));
    let code = tokio::task::spawn_blocking(move || run(&mut curl).0).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(std::fs::read(part).unwrap() == whole.body);
}

#[tokio::test]
async fn a_member_that_is_missing_is_told_before_the_first_byte_or_left_out() {
    let list = "- 9 @DATA@/a.txt a.txt\n- 5 @DATA@/nothing nothing\n- 9 /_x/etc/passwd x\n";
    let site = Site::listing(list, "").await;
    let answer = site.proxy.get("/zip").header("accept", "application/json").await.expect(502);
    assert!(!answer.json()["err_msg"].as_str().unwrap().is_empty());
    let site = Site::listing(list, "X-Archive-Missing: skip\r\n").await;
    let answer = site.proxy.get("/zip").await.expect(200);
    assert!(site.judge(&answer));
    assert!(!answer.body.windows(7).any(|bytes| bytes == b"nothing"));
}

#[tokio::test]
async fn what_is_no_list_is_a_502() {
    for list in ["this is no list", "- 5 /_x/elsewhere/a a\n", "- - / of-unknown-size\n"] {
        let site = Site::listing(list, "").await;
        site.proxy.get("/zip").await.expect(502);
    }
}

#[tokio::test]
async fn the_list_of_a_worker_that_dies_is_a_502() {
    let app = Backend::serving(|mut wire, _| async move {
        if wire.head().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nX-Archive-Files: zip\r\nContent-Length: 1000\r\n\r\n- 1 /a a\n";
            wire.send(head).await;
        }
    })
    .await;
    let proxy = Proxy::to([app.address()]).start().await;
    proxy.get("/zip").await.expect(502);
}

#[tokio::test]
async fn members_may_come_from_another_upstream() {
    let site = Scratch::new();
    let store = Backend::saying("from elsewhere").await;
    let list = "- 14 /store/x%20y?q=1 elsewhere.txt\n";
    let app = Backend::answering(move |_| {
        let length = list.len();
        format!("HTTP/1.1 200 OK\r\nX-Archive-Files: zip\r\nContent-Length: {length}\r\n\r\n{list}")
            .into_bytes()
    })
    .await;
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\"/store\" = { proxy = \"store\", internal = true }\n\
         [upstream.app]\nservers = [\"@APP@\"]\n[upstream.store]\nservers = [\"@STORE@\"]\n\
         hold = \"100ms\"\n",
    )
    .fill("APP", app.address())
    .fill("STORE", store.address())
    .start()
    .await;
    let asked = proxy.get("/zip").header("cookie", "a=b").header("cookie", "galaxysession=1");
    let answer = asked.await.expect(200);
    let path = site.write("got.zip", &answer.body);
    assert_eq!(run(Command::new("unzip").arg("-tqq").arg(path)).0, Some(0));
    assert!(answer.body.windows(14).any(|bytes| bytes == b"from elsewhere"));
    let head = &store.heads()[0];
    assert!(head.starts_with("GET /store/x%20y?q=1 HTTP/1.0"), "{head}");
    for field in ["Cookie: a=b", "Cookie: galaxysession=1", "X-Forwarded-For: "] {
        assert!(head.contains(field), "{field} in {head}");
    }
    drop(store);
    let connection = proxy.get("/zip").send().await;
    assert!(connection.is_err(), "what has begun and cannot be finished is cut");
}

#[tokio::test]
async fn lengths_are_told_of_the_archive_or_not_at_all() {
    let site = Site::listing(LIST, "").await;
    let head = site.proxy.request("HEAD", "/zip").await.expect(200);
    assert_eq!(head.header("content-length"), "", "the list's is not the archive's");
    assert_eq!(head.header("content-type"), "application/zip");
    site.proxy.get("/zip").await.expect(200);
    let etag = site.proxy.get("/zip").await.expect(200).header("etag");
    let same = site.proxy.get("/zip").header("if-none-match", &etag).await.expect(304);
    assert_eq!(same.header("content-length"), "", "RFC 9110 section 8.6");
}
