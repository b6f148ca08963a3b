//! Static files, as nginx serves them where nginx is right.

use std::time::Instant;

use crate::fixtures::{Answer, Backend, Nginx, Proxy, SOON, Scratch, ms, noise, pass, within};

const STATIC: &str = r#"
[[site]]
[site.routes]
"/static" = { files = "@ROOT@", expires = "24h" }
"#;

/// A folder `root` to serve, and beside it what must never be served.
fn tree() -> Scratch {
    let scratch = Scratch::new();
    for (name, content) in [
        ("root/style.css", "body { color: black }"),
        ("root/app.js", "console.log(1)"),
        ("root/module.mjs", "export {}"),
        ("root/code.wasm", "\0asm"),
        ("root/page.html", "<p>page</p>"),
        ("root/data.json", "{}"),
        ("root/picture.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
        ("root/notes.txt", "0123456789"),
        ("root/unknown.zzz", "who knows"),
        ("root/empty.css", ""),
        ("root/with space+plus.css", "a {}"),
        ("root/caf\u{e9}.css", "b {}"),
        ("root/percent%41.css", "c {}"),
        ("root/sub/deep.css", "d {}"),
        ("root/.hidden", "SECRET"),
        ("root/.git/config", "SECRET"),
        ("secret.txt", "SECRET"),
        ("root-secret.txt", "SECRET"),
    ] {
        scratch.write(name, content);
    }
    scratch.link("root/out.txt", scratch.path("secret.txt"));
    scratch.link("root/in.css", scratch.path("root/style.css"));
    scratch
}

async fn serving(scratch: &Scratch) -> Proxy {
    Proxy::toml(STATIC).fill("ROOT", scratch.path("root").display()).start().await
}

#[tokio::test]
async fn files_have_their_type_validators_and_expiry() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    for (name, kinds) in [
        ("style.css", &["text/css"][..]),
        ("app.js", &["text/javascript", "application/javascript"]),
        ("module.mjs", &["text/javascript", "application/javascript"]),
        ("code.wasm", &["application/wasm"]),
        ("page.html", &["text/html"]),
        ("data.json", &["application/json"]),
        ("picture.svg", &["image/svg+xml"]),
        ("unknown.zzz", &["application/octet-stream"]),
    ] {
        let answer = proxy.get(&format!("/static/{name}")).await.expect(200);
        let kind = answer.header("content-type");
        assert!(kinds.iter().any(|known| kind.split(';').next() == Some(known)), "{name} is {kind}");
        assert_eq!(answer.body, std::fs::read(scratch.path("root").join(name)).unwrap());
        assert!(answer.header("cache-control").contains("max-age=86400"), "{answer:?}");
        assert!(answer.header("etag").starts_with('"'), "{answer:?}");
        assert!(!answer.header("last-modified").is_empty());
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn a_changed_file_has_another_etag() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    let first = proxy.get("/static/style.css").await.header("etag");
    scratch.write("root/style.css", "body { color: white }");
    let answer = proxy.get("/static/style.css").header("if-none-match", &first).await.expect(200);
    assert_ne!(answer.header("etag"), first);
    assert!(answer.text().contains("white"));
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    for method in ["POST", "PUT", "DELETE", "PROPFIND"] {
        let answer = proxy.request(method, "/static/style.css").await.expect(405);
        assert!(answer.header("allow").contains("GET"), "{answer:?}");
        assert!(answer.header("allow").contains("HEAD"), "{answer:?}");
    }
    let answer = proxy.request("OPTIONS", "/static/style.css").await.expect(204);
    assert_eq!(answer.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn no_spelling_of_a_path_leaves_the_folder() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    let absolute = scratch.path("secret.txt").display().to_string();
    let root = scratch.path("root").display().to_string();
    let paths = [
        "/static/../secret.txt".to_owned(),
        "/static/%2e%2e/secret.txt".into(),
        "/static/.%2e/secret.txt".into(),
        "/static/%2E%2E%2Fsecret.txt".into(),
        "/static/..%2fsecret.txt".into(),
        "/static/..\\secret.txt".into(),
        "/static/..%5csecret.txt".into(),
        "/static/%252e%252e/secret.txt".into(),
        "/static/%c0%ae%c0%ae/secret.txt".into(),
        "/static/sub/../../secret.txt".into(),
        "/static/sub/%2e%2e/%2e%2e/secret.txt".into(),
        "/static/./.././secret.txt".into(),
        "/static//../secret.txt".into(),
        "/static/....//secret.txt".into(),
        "/static/..;/secret.txt".into(),
        "/static../secret.txt".into(),
        "/static..%2fsecret.txt".into(),
        "/static-secret.txt".into(),
        "/../secret.txt".into(),
        "/static/../../../../../../../../etc/passwd".into(),
        "/static/style.css%00.txt".into(),
        "/static/%00".into(),
        "/static/..%00/secret.txt".into(),
        format!("/static/{absolute}"),
        format!("/static{absolute}"),
        format!("/static/{}", absolute.replace('/', "%2f")),
        "/static/out.txt".into(),
        "/static/.hidden".into(),
        "/static/%2ehidden".into(),
        "/static/.git/config".into(),
        "/static/sub/../.hidden".into(),
    ];
    for path in paths {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = wire.answer().await.unwrap_or_else(|| panic!("no answer to {path}"));
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.text().contains("SECRET") && !answer.text().contains("root:"), "{path}: {answer:?}");
        assert!(!answer.text().contains(&*root), "where files are is nobody's business: {answer:?}");
    }
}

#[tokio::test]
async fn folders_and_missing_files_are_404() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    for path in [
        "/static",
        "/static/",
        "/static/sub",
        "/static/sub/",
        "/static/none.css",
        "/static/style.css/",
        "/static/style.css/x",
    ] {
        proxy.get(path).await.expect(404);
    }
    assert_eq!(
        proxy.get("/static/in.css").await.expect(200).text(),
        "body { color: black }",
        "a link within"
    );
}

#[tokio::test]
async fn a_large_file_is_equal_and_the_connection_goes_on() {
    let scratch = tree();
    let content = noise(5 << 20);
    scratch.write("root/large.bin", &content);
    let proxy = serving(&scratch).await;
    let mut connection = proxy.connect().await;
    for _ in 0..3 {
        let answer = connection.send(connection.get("/static/large.bin")).await.expect("a whole answer");
        assert!(answer.expect(200).body == content);
    }
    connection.send(connection.get("/static/style.css")).await.expect("still in order").expect(200);
}

#[tokio::test]
async fn files_of_every_size_around_the_limits_are_whole() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    let sizes = [1, 4095, 4096, 16384, 32767, 32768, 32769, 65535, 65536, 65537, 262_145, 1_048_577];
    let mut connection = proxy.connect().await;
    for size in sizes {
        let content = noise(size);
        scratch.write("root/sized.bin", &content);
        let answer =
            connection.send(connection.get("/static/sized.bin")).await.expect("a whole answer").expect(200);
        assert!(answer.body == content, "{size} bytes are {} bytes", answer.body.len());
        assert_eq!(answer.header("content-length"), size.to_string());
    }
}

#[tokio::test]
async fn more_ranges_than_are_sensible_are_the_whole() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    let ranges = ["0-9"; 800].join(",");
    let answer = proxy.get("/static/notes.txt").header("range", &format!("bytes={ranges}")).await.expect(200);
    assert_eq!(answer.text(), "0123456789");
    assert_eq!(answer.header("content-range"), "");
}

#[tokio::test]
async fn several_ranges_are_parts_of_one_answer() {
    let scratch = tree();
    let (small, large) = (noise(5000), noise(3_000_000));
    scratch.write("root/small.bin", &small);
    scratch.write("root/large.bin", &large);
    let proxy = serving(&scratch).await;
    for (name, body) in [("small.bin", small), ("large.bin", large)] {
        let ranges = format!("bytes=1000-1999, 0-9, {}-", body.len() - 5);
        let answer = proxy.get(&format!("/static/{name}")).header("range", &ranges).await.expect(206);
        let kind = answer.header("content-type");
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let part = |start: usize, end: usize| {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {start}-{}/{}\r\n\r\n",
                end - 1,
                body.len()
            );
            [head.as_bytes(), &body[start..end]].concat()
        };
        let end = format!("\r\n--{boundary}--\r\n");
        let expected =
            [part(1000, 2000), part(0, 10), part(body.len() - 5, body.len()), end.into_bytes()].concat();
        assert!(answer.body == expected, "{name}");
        assert_eq!(answer.header("content-length"), expected.len().to_string());
    }
}

/// Where the RFC says otherwise than nginx does: only GET has ranges (RFC 9110 §14.2).
#[tokio::test]
async fn head_has_no_ranges() {
    let scratch = tree();
    let proxy = serving(&scratch).await;
    let answer = proxy.request("HEAD", "/static/notes.txt").header("range", "bytes=2-5").await.expect(200);
    assert_eq!(answer.header("content-length"), "10");
}

/// What must be equal to nginx: status, kind of content, range, and the body of a success.
fn essence(answer: &Answer) -> (u16, String, String, String) {
    let good = answer.status < 300;
    let kind = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
    // nginx 1.22 has the older name of the same type.
    let kind = kind.replace("application/javascript", "text/javascript");
    let only_good = |text: String| if good { text } else { String::new() };
    (answer.status, only_good(kind), answer.header("content-range"), only_good(answer.text()))
}

#[tokio::test]
async fn answers_are_those_of_nginx() {
    let scratch = tree();
    let (proxy, nginx) = (serving(&scratch).await, Nginx::serving(&scratch.path("root")).await);
    let modified = nginx.request("GET", "/static/notes.txt").await.header("last-modified");
    assert_eq!(proxy.get("/static/notes.txt").await.header("last-modified"), modified);
    let long_ago = "Sat, 01 Jan 2000 00:00:00 GMT";
    let nothing: &[(&str, &str)] = &[];
    let table = [
        ("GET", "/static/style.css", nothing),
        ("GET", "/static/app.js", nothing),
        ("GET", "/static/page.html", nothing),
        ("GET", "/static/data.json", nothing),
        ("GET", "/static/picture.svg", nothing),
        ("GET", "/static/empty.css", nothing),
        ("GET", "/static/sub/deep.css?version=1", nothing),
        ("GET", "/static/with%20space+plus.css", nothing),
        ("GET", "/static/caf%C3%A9.css", nothing),
        ("GET", "/static/percent%2541.css", nothing),
        ("GET", "/static/percent%41.css", nothing),
        ("GET", "/static/%73tyle.css", nothing),
        ("GET", "/static/none.css", nothing),
        ("GET", "/elsewhere", nothing),
        ("HEAD", "/static/style.css", nothing),
        ("HEAD", "/static/none.css", nothing),
        ("POST", "/static/style.css", nothing),
        ("GET", "/static/notes.txt", &[("range", "bytes=0-0")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=2-5")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=5-")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=-4")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=-400")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=0-400")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=10-")]),
        ("GET", "/static/notes.txt", &[("range", "bytes=100-200")]),
        ("GET", "/static/notes.txt", &[("range", "lines=1-2")]),
        ("GET", "/static/notes.txt", &[("if-modified-since", &modified)]),
        ("GET", "/static/notes.txt", &[("if-modified-since", long_ago)]),
        ("GET", "/static/notes.txt", &[("if-modified-since", "yesterday")]),
        ("GET", "/static/notes.txt", &[("if-unmodified-since", long_ago)]),
        ("GET", "/static/notes.txt", &[("if-unmodified-since", &modified)]),
        ("GET", "/static/notes.txt", &[("if-none-match", "\"x\"")]),
        ("GET", "/static/notes.txt", &[("if-none-match", "*")]),
        ("GET", "/static/notes.txt", &[("if-match", "\"x\"")]),
        ("GET", "/static/notes.txt", &[("if-match", "*")]),
        ("GET", "/static/notes.txt", &[("if-none-match", "\"x\""), ("if-modified-since", &modified)]),
        ("GET", "/static/notes.txt", &[("range", "bytes=0-1"), ("if-range", &modified)]),
        ("GET", "/static/notes.txt", &[("range", "bytes=0-1"), ("if-range", long_ago)]),
        ("GET", "/static/notes.txt", &[("range", "bytes=0-1"), ("if-range", "\"x\"")]),
    ];
    for (method, path, headers) in table {
        let mut answers = Vec::new();
        for target in [proxy.target(), nginx.target()] {
            let mut request = target.request(method, path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            answers.push(essence(&request.await));
        }
        assert_eq!(answers[0], answers[1], "{method} {path} {headers:?}: ours, nginx's");
    }
}

#[tokio::test]
async fn a_file_from_before_1970_is_a_file() {
    let scratch = Scratch::new();
    let file = std::fs::File::create(scratch.path("old.txt")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(86_400)).unwrap();
    let proxy = Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ files = \"{}\" }}",
        scratch.root().display()
    ))
    .start()
    .await;
    proxy.get("/old.txt").send().await.expect("an answer, not a panic").expect(200);
}

fn routes(scratch: &Scratch, modifiers: &str) -> String {
    let root = scratch.path("root");
    format!("[[site]]\n[site.routes]\n\"/data\" = {{ files = {root:?}, {modifiers} }}\n")
}

#[tokio::test]
async fn codings_that_lie_beside_a_file_are_sent_to_those_who_want_them() {
    let scratch = tree();
    scratch.write("root/app.js", "original");
    for (name, content) in [("app.js.gz", "gzipped"), ("app.js.br", "brotli")] {
        scratch.write(&format!("root/{name}"), content);
    }
    let text = routes(&scratch, "precompressed = [\"gzip\", \"br\"]").replace("/data", "/static");
    let proxy = Proxy::toml(&text).start().await;
    let get = async |accept: &str| {
        let answer = proxy.get("/static/app.js").header("accept-encoding", accept).await.expect(200);
        assert_eq!(answer.header("vary"), "Accept-Encoding");
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        (answer.text(), answer.header("content-encoding"), answer.header("etag"))
    };
    let (text, coding, plain) = get("identity").await;
    assert_eq!((&*text, &*coding), ("original", ""));
    let (text, coding, gzip) = get("gzip, deflate").await;
    assert_eq!((&*text, &*coding), ("gzipped", "gzip"));
    let (text, coding, brotli) = get("gzip;q=0.5, br").await;
    assert_eq!((&*text, &*coding), ("brotli", "br"));
    assert!(plain != gzip && gzip != brotli && plain != brotli);
    let again = proxy.get("/static/app.js").header("accept-encoding", "gzip").header("if-none-match", &gzip);
    let again = again.await.expect(304);
    assert_eq!((again.header("etag"), again.header("vary")), (gzip, "Accept-Encoding".into()));
    let part = proxy.get("/static/app.js").header("accept-encoding", "gzip").header("range", "bytes=0-3");
    let part = part.await.expect(206);
    assert_eq!(
        (&*part.text(), &*part.header("content-encoding")),
        ("orig", ""),
        "a range is of the original"
    );
}

#[tokio::test]
async fn files_beside_a_file_are_files_of_their_own_unless_the_route_says_otherwise() {
    let scratch = tree();
    scratch.write("root/reads.vcf", "the reads");
    scratch.write("root/reads.vcf.gz", "other reads");
    let root = scratch.path("root");
    let proxy = Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/data\" = {{ files = {root:?} }}\n\
         \"/br\" = {{ files = {root:?}, precompressed = [\"br\"] }}\n\
         \"/none\" = {{ files = {root:?}, precompressed = false }}\n\
         \"/all\" = {{ files = {root:?}, precompressed = true }}\n"
    ));
    let proxy = proxy.start().await;
    for (route, text) in
        [("data", "the reads"), ("br", "the reads"), ("none", "the reads"), ("all", "other reads")]
    {
        let get = proxy.get(&format!("/{route}/reads.vcf")).header("accept-encoding", "gzip, br, zstd");
        assert_eq!(get.await.expect(200).text(), text, "{route}");
    }
}

#[tokio::test]
async fn names_of_what_is_no_file_are_404_and_nothing_in_the_log() {
    let scratch = tree();
    scratch.link("root/round", scratch.path("root/round"));
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path("root/socket")).unwrap();
    let mut proxy = serving(&scratch).await;
    let long = format!("/static/{}", "x".repeat(300));
    let deep = format!("/static{}", "/x".repeat(3_000));
    for path in ["/static/round", "/static/round/a", "/static/socket", "/static/style.css/a", &long, &deep] {
        proxy.get(path).await.expect(404);
    }
    // What clients can ask for again and again is not told each time.
    for _ in 0..50 {
        proxy.get("/static/out.txt").await.expect(404);
    }
    let log = proxy.process().stderr();
    assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 10, "{log}");
    assert!(!log.contains("round") && !log.contains("socket") && log.contains("out.txt"), "{log}");
}

#[tokio::test]
async fn a_directory_is_its_index_or_a_listing() {
    let scratch = Scratch::new();
    scratch.write("root/with/index.html", "the index");
    scratch.write("root/without/b.txt", "b");
    scratch.write("root/without/a.txt", "a");
    scratch.write("root/without/.secret", "");
    let proxy = Proxy::toml(&routes(&scratch, "index = [\"index.htm\", \"index.html\"], listing = true"))
        .start()
        .await;
    assert_eq!(proxy.get("/data/with/").await.expect(200).text(), "the index");
    assert_eq!(proxy.get("/data/with?a=b").await.expect(301).header("location"), "/data/with/?a=b");
    let elsewhere = proxy.get("//else.example/%2e%2e/data/with").await.expect(301);
    assert_eq!(elsewhere.header("location"), "/data/with/", "not to another host");
    let page = proxy.get("/data/without/").header("accept", "text/html").await.expect(200).text();
    assert!(page.find("a.txt").unwrap() < page.find("b.txt").unwrap() && !page.contains("secret"), "{page}");
    let turned = proxy.get("/data/without/?sort=name&order=desc").await.expect(200).text();
    assert!(turned.find("a.txt").unwrap() > turned.find("b.txt").unwrap(), "{turned}");
    let json = proxy.get("/data/without/").header("accept", "application/json").await.expect(200).json();
    assert_eq!(json[0]["name"], "a.txt");
    assert_eq!(json[0]["size"], 1);
    assert_eq!(json.as_array().unwrap().len(), 2);
    proxy.get("/data/nothing/").await.expect(404);
    proxy.get("/data/%2e%2e/").await.expect(404);
}

#[tokio::test]
async fn the_first_of_several_places_that_has_a_file_sends_it() {
    let scratch = Scratch::new();
    scratch.write("custom/a.txt", "mine");
    scratch.write("root/a.txt", "theirs");
    scratch.write("root/b.vcf.gz", "theirs too");
    let custom = scratch.path("custom");
    let text = routes(&scratch, "types = { \"vcf.gz\" = \"text/x-vcf\" }, try = [\"@ROOT@\"]");
    let text = text.replacen(&format!("{:?}", scratch.path("root")), &format!("{custom:?}"), 1);
    let proxy = Proxy::toml(&text).fill("ROOT", scratch.path("root").display()).start().await;
    assert_eq!(proxy.get("/data/a.txt").await.expect(200).text(), "mine");
    let other = proxy.get("/data/b.vcf.gz").await.expect(200);
    assert_eq!((&*other.text(), &*other.header("content-type")), ("theirs too", "text/x-vcf"));
    proxy.get("/data/c.txt").await.expect(404);
}

#[tokio::test]
async fn an_encoded_slash_names_no_file() {
    let scratch = Scratch::new();
    scratch.write("root/a/b.txt", "b");
    let proxy = Proxy::toml(&routes(&scratch, "symlinks = \"none\"")).start().await;
    proxy.get("/data/a/b.txt").await.expect(200);
    for path in ["/data/a%2Fb.txt", "/data/a%2fb.txt", "/data/%2e%2e%2froot/a/b.txt", "/data/..%5ca/b.txt"] {
        proxy.get(path).await.expect(404);
    }
}

/// Seconds that a download takes.
async fn download(proxy: &Proxy, path: &str) -> f64 {
    let start = Instant::now();
    assert_eq!(proxy.get(path).await.expect(200).body.len(), 1 << 20);
    start.elapsed().as_secs_f64()
}

#[tokio::test]
async fn downloads_are_no_faster_than_their_route_and_their_site_say() {
    let scratch = Scratch::new();
    scratch.write("root/a.bin", noise(1 << 20));
    let text = format!(
        "[[site]]\nlimit_rate = \"2m\"\n[site.routes]\n\"/slow\" = {{ files = {root:?}, limit_rate = \"1m\" }}\n\
         \"/free\" = {{ files = {root:?}, limit_rate = \"10k\", limit_rate_after = \"2m\" }}\n\
         \"/site\" = {{ files = {root:?} }}\n",
        root = scratch.path("root")
    );
    let proxy = Proxy::toml(&text).start().await;
    let slow = download(&proxy, "/slow/a.bin").await;
    assert!(slow >= 0.8, "{slow} s for a mebibyte at 1m");
    // At 10k it would take 100 s.
    within(SOON, "what is below limit_rate_after", download(&proxy, "/free/a.bin")).await;
    let (one, other) = tokio::join!(download(&proxy, "/site/a.bin"), download(&proxy, "/site/a.bin"));
    assert!(one >= 0.7 && other >= 0.7, "{one} s and {other} s at 2m for both");
}

#[tokio::test]
async fn an_answer_that_comes_in_small_parts_is_no_faster_either() {
    let app = Backend::serving(|mut wire, _| async move {
        while wire.request().await.is_some() {
            let mut sent = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 1024000\r\n\r\n").await;
            for _ in 0..125 {
                sent = sent.and(wire.try_send(vec![7; 8192]).await);
                pass(ms(1)).await;
            }
            if sent.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::to([app.address()]).route("limit_rate = \"1m\"").start().await;
    let start = Instant::now();
    assert_eq!(proxy.get("/").await.expect(200).body.len(), 1_024_000);
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds >= 0.8, "{seconds} s for a megabyte at 1m");
}

#[tokio::test]
async fn an_index_that_is_a_directory_is_no_circle() {
    let scratch = Scratch::new();
    scratch.write("root/a/index.html/b", "b");
    let proxy = Proxy::toml(&routes(&scratch, "index = \"index.html\"")).start().await;
    proxy.get("/data/a/").await.expect(404);
}

#[tokio::test]
async fn what_a_site_says_of_all_its_answers_it_says_of_those_without_a_body_too() {
    let scratch = Scratch::new();
    scratch.write("root/a.css", "a {}");
    let root = scratch.path("root").display().to_string();
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\
         \"/\" = { files = \"@ROOT@\", headers = { Content-Security-Policy = \"default-src 'self'\" } }\n",
    )
    .fill("ROOT", root)
    .start()
    .await;
    let whole = proxy.get("/a.css").await.expect(200);
    let same = proxy.get("/a.css").header("if-none-match", &whole.header("etag")).await.expect(304);
    let none = proxy.get("/a.css").header("range", "bytes=9-").await.expect(416);
    for answer in [&whole, &same, &none] {
        assert_eq!(answer.header("content-security-policy"), "default-src 'self'", "{answer:?}");
    }
    assert_eq!((same.header("content-type"), none.header("content-type")), ("".into(), "".into()));
}
