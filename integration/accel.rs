//! Accelerated downloads: the application names a file, the proxy sends it.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::fixtures::{Backend, Gunicorn, Proxy, Scratch, eventually, noise};

const GALAXY: &str = r#"
[[site]]
[site.routes]
"/" = { proxy = "app" }
"/_x_accel_redirect" = { files = "/", internal = true, within = ["@DATA@"] }
[upstream.app]
servers = ["@APP@"]
"#;

/// A folder `data` that downloads may come from, an application, and the proxy in front.
struct Site {
    scratch: Scratch,
    proxy: Proxy,
    _app: Gunicorn,
}

impl Site {
    async fn start() -> Self {
        let scratch = Scratch::new();
        scratch.write("data/reads.fastq", "ACGTACGTAC\n");
        let app = Gunicorn::app().start().await;
        let proxy = Proxy::toml(GALAXY)
            .fill("DATA", scratch.path("data").display())
            .fill("APP", app.address())
            .start()
            .await;
        Self { scratch, proxy, _app: app }
    }

    /// The path of the application that hands over `file` of the scratch folder.
    fn download(&self, file: &str) -> String {
        let path = format!("/_x_accel_redirect{}", self.scratch.path(file).display());
        format!("/accel?path={}", utf8_percent_encode(&path, NON_ALPHANUMERIC))
    }
}

#[tokio::test]
async fn the_file_is_sent_with_the_headers_of_the_application() {
    let site = Site::start().await;
    let answer = site.proxy.get(&site.download("data/reads.fastq")).await.expect(200);
    assert_eq!(answer.text(), "ACGTACGTAC\n");
    assert_eq!(answer.header("content-length"), "11");
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"reads.fastq\"");
    assert_eq!(answer.all("set-cookie"), ["galaxysession=abc; HttpOnly", "second=1"]);
    assert_eq!(answer.header("access-control-allow-origin"), "https://browser.example.org");
    assert_eq!(answer.header("access-control-expose-headers"), "Content-Length,Content-Range");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert!(!answer.header("last-modified").is_empty(), "the file gives it");
    assert!(answer.header("etag").starts_with('"'), "the file gives a strong one: {answer:?}");
    assert!(!answer.header("x-request-id").is_empty());
    for name in answer.headers.keys() {
        assert!(!name.as_str().starts_with("x-accel"), "{name} is nobody's business");
    }
}

#[tokio::test]
async fn the_etag_of_the_application_is_kept_and_compared() {
    let site = Site::start().await;
    let path = format!("{}&etag=%22mine%22", site.download("data/reads.fastq"));
    assert_eq!(site.proxy.get(&path).await.expect(200).all("etag"), ["\"mine\""]);
    let same = site.proxy.get(&path).header("if-none-match", "\"mine\"").await.expect(304);
    assert!(same.body.is_empty());
    site.proxy.get(&path).header("if-none-match", "\"other\"").await.expect(200);
}

#[tokio::test]
async fn ranges_are_answered_from_the_file() {
    let site = Site::start().await;
    let path = site.download("data/reads.fastq");
    for (range, body, content_range) in [
        ("bytes=0-3", "ACGT", "bytes 0-3/11"),
        ("bytes=4-", "ACGTAC\n", "bytes 4-10/11"),
        ("bytes=-3", "AC\n", "bytes 8-10/11"),
        ("bytes=8-100", "AC\n", "bytes 8-10/11"),
        ("bytes=-100", "ACGTACGTAC\n", "bytes 0-10/11"),
    ] {
        let request = site.proxy.get(&path).header("range", range).header("accept-encoding", "gzip");
        let answer = request.await.expect(206);
        assert_eq!(answer.text(), body, "{range}");
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), body.len().to_string());
        assert_eq!(answer.header("content-disposition"), "attachment; filename=\"reads.fastq\"");
    }
    let beyond = site.proxy.get(&path).header("range", "bytes=11-").await.expect(416);
    assert_eq!(beyond.header("content-range"), "bytes */11");
}

#[tokio::test]
async fn if_range_decides_between_part_and_whole() {
    let site = Site::start().await;
    let path = site.download("data/reads.fastq");
    let etag = site.proxy.get(&path).await.header("etag");
    let part =
        |validator: &str| site.proxy.get(&path).header("range", "bytes=0-1").header("if-range", validator);
    assert_eq!(part(&etag).await.expect(206).text(), "AC");
    assert_eq!(part("\"another\"").await.expect(200).body.len(), 11);
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let site = Site::start().await;
    let answer = site.proxy.request("HEAD", &site.download("data/reads.fastq")).await.expect(200);
    assert_eq!(answer.header("content-length"), "11");
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let site = Site::start().await;
    let path = site.download("data/reads.fastq");
    let first = site.proxy.get(&path).await;
    for (name, value) in
        [("if-none-match", first.header("etag")), ("if-modified-since", first.header("last-modified"))]
    {
        let answer = site.proxy.get(&path).header(name, &value).await.expect(304);
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), first.header("etag"));
    }
    site.proxy.get(&path).header("if-none-match", "\"another\"").await.expect(200);
    site.proxy.get(&path).header("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT").await.expect(200);
    site.proxy.get(&path).header("if-match", "\"another\"").await.expect(412);
}

#[tokio::test]
async fn a_client_cannot_ask_for_the_internal_route() {
    let site = Site::start().await;
    let file = site.scratch.path("data/reads.fastq");
    for path in [
        format!("/_x_accel_redirect{}", file.display()),
        "/_x_accel_redirect".into(),
        "/_x_accel_redirect/".into(),
    ] {
        let answer = site.proxy.get(&path).await.expect(404);
        assert!(!answer.text().contains("ACGT"));
    }
}

#[tokio::test]
async fn a_file_outside_within_is_a_404_and_an_error_in_the_log() {
    let mut site = Site::start().await;
    site.scratch.write("secret-one", "SECRET");
    site.scratch.write("data-secret-two", "SECRET");
    site.scratch.write("secret-three", "SECRET");
    site.scratch.link("data/link", site.scratch.path("secret-three"));
    for (file, logged) in [
        ("secret-one", "secret-one"),
        ("data/../secret-one", "secret-one"),
        ("data/%2e%2e/secret-one", "secret-one"),
        ("data-secret-two", "data-secret-two"),
        ("data/link", "data/link"),
        ("data", "data"),
        ("data/missing", "missing"),
    ] {
        let answer = site.proxy.get(&site.download(file)).await.expect(404);
        assert!(!answer.text().contains("SECRET"), "{file}: {answer:?}");
        assert!(!answer.text().contains("secret-"), "where files are is nobody's business: {answer:?}");
        assert!(answer.header("content-disposition").is_empty(), "an error page is no download: {answer:?}");
        site.proxy.process().logged(logged).await;
    }
    assert!(site.proxy.process().stderr().contains("ERROR"));
}

#[tokio::test]
async fn a_link_within_is_followed() {
    let site = Site::start().await;
    site.scratch.link("data/link", site.scratch.path("data/reads.fastq"));
    assert_eq!(site.proxy.get(&site.download("data/link")).await.expect(200).body.len(), 11);
}

#[tokio::test]
async fn a_name_is_taken_as_it_is_and_decoded_only_when_it_does_not_exist() {
    let site = Site::start().await;
    site.scratch.write("data/literal%41.txt", "literal");
    site.scratch.write("data/literalA.txt", "decoded");
    site.scratch.write("data/a b\u{e9}?#.txt", "only decoded");
    let text = async |file: &str| site.proxy.get(&site.download(file)).await.expect(200).text();
    assert_eq!(text("data/literal%41.txt").await, "literal");
    assert_eq!(text("data/literalA.txt").await, "decoded");
    assert_eq!(text("data/a b\u{e9}?#.txt").await, "only decoded");
    assert_eq!(text("data/a%20b%C3%A9%3F%23.txt").await, "only decoded");
}

#[tokio::test]
async fn a_name_may_have_a_query_after_it() {
    let site = Site::start().await;
    site.scratch.write("data/what?filename=b", "literal");
    site.scratch.write("data/with space", "decoded");
    for (file, content) in [
        ("data/reads.fastq?filename=B", "ACGTACGTAC\n"),
        ("data/reads.fastq?next=/../x", "ACGTACGTAC\n"),
        ("data/reads.fastq?", "ACGTACGTAC\n"),
        ("data/what?filename=b", "literal"),
        ("data/with%20space?a=b", "decoded"),
    ] {
        assert_eq!(site.proxy.get(&site.download(file)).await.expect(200).text(), content, "{file}");
    }
    site.proxy.get(&site.download("data/../secret?a")).await.expect(404);
}

#[tokio::test]
async fn a_large_file_is_equal_and_the_connection_goes_on() {
    let site = Site::start().await;
    let content = noise(50 << 20);
    site.scratch.write("data/large.bam", &content);
    let path = site.download("data/large.bam");
    let mut connection = site.proxy.connect().await;
    for _ in 0..2 {
        let answer = connection.send(connection.get(&path)).await.expect("a whole answer").expect(200);
        assert!(answer.body == content, "{} bytes of {}", answer.body.len(), content.len());
    }
    let answer =
        connection.send(connection.get(&path).header("range", "bytes=40000000-40000009")).await.unwrap();
    assert_eq!(answer.expect(206).body, content[40_000_000..40_000_010]);
    connection.send(connection.get("/pid")).await.expect("the connection is still in order").expect(200);
    let sent = site.proxy.metrics().await.sum("bowshock_response_bytes_total", &["how=\"sendfile\""]);
    assert!(sent >= 100.0 * f64::from(1 << 20), "{sent}");
}

#[tokio::test]
async fn many_downloads_at_once_are_each_whole() {
    let site = Site::start().await;
    let content = noise(4 << 20);
    site.scratch.write("data/large.bam", &content);
    let path = site.download("data/large.bam");
    let downloads: Vec<_> = (0..20).map(|_| site.proxy.get(&path).spawn()).collect();
    for download in downloads {
        assert!(download.await.unwrap().unwrap().expect(200).body == content);
    }
}

#[tokio::test]
async fn an_empty_file_is_a_good_file() {
    let site = Site::start().await;
    site.scratch.write("data/empty", "");
    let answer = site.proxy.get(&site.download("data/empty")).await.expect(200);
    assert_eq!(answer.header("content-length"), "0");
}

#[tokio::test]
async fn a_post_may_be_answered_with_a_file() {
    let site = Site::start().await;
    let answer = site.proxy.post(&site.download("data/reads.fastq"), noise(100_000)).await.expect(200);
    assert_eq!(answer.text(), "ACGTACGTAC\n");
}

#[tokio::test]
async fn x_accel_redirect_from_a_client_means_nothing() {
    let site = Site::start().await;
    let path = format!("/_x_accel_redirect{}", site.scratch.path("data/reads.fastq").display());
    let answer = site.proxy.get("/echo").header("x-accel-redirect", &path).await.expect(200);
    assert_eq!(answer.json()["path"], "/echo");
}

#[tokio::test]
async fn a_416_keeps_what_the_application_said() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("f"), "hello").unwrap();
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\nX-Accel-Redirect: /_x/f\r\n\r\n"
            .to_vec()
    })
    .await;
    let folder = scratch.root().display();
    let proxy = Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n\
         \"/_x\" = {{ files = \"{folder}\", internal = true, within = [\"{folder}\"] }}\n\
         [upstream.app]\nservers = [\"{}\"]",
        backend.address()
    ))
    .start()
    .await;
    let answer = proxy.get("/").header("range", "bytes=100-").send().await.unwrap().expect(416);
    assert_eq!(answer.all("access-control-allow-origin"), ["*"], "or the browser hides the 416");
}

/// An answer without content that names something in `field`.
fn naming(field: &str, value: &str) -> impl Fn(&str) -> Vec<u8> + Send + Sync + 'static + use<> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-App: here\r\nSet-Cookie: a=b\r\nContent-Disposition: attachment\r\n{field}: {value}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    move |_| head.clone().into_bytes()
}

#[tokio::test]
async fn a_file_may_be_named_by_its_path_if_an_internal_route_may_send_it() {
    let scratch = Scratch::new();
    let inside = scratch.write("data/a.txt", "a dataset");
    let outside = scratch.write("secret/b.txt", "a secret");
    for (path, status) in [(&inside, 200), (&outside, 404)] {
        let app = Backend::answering(naming("X-Sendfile", path.to_str().unwrap())).await;
        let proxy = Proxy::handing_over(&scratch.path("data"), &app).start().await;
        let answer = proxy.get("/download").await.expect(status);
        assert_eq!(answer.header("x-sendfile"), "");
        if status == 200 {
            assert_eq!((&*answer.text(), &*answer.header("x-app")), ("a dataset", "here"));
        }
    }
}

#[tokio::test]
async fn an_application_may_hand_a_request_to_another_upstream() {
    let other = Backend::saying("from elsewhere").await;
    let app = Backend::answering(naming("X-Accel-Redirect", "/other/a b?x=%41&y=1")).await;
    let circle = Backend::answering(naming("X-Accel-Redirect", "/circle/on")).await;
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\"/circle\" = { proxy = \"circle\" }\n\
         \"/other\" = { proxy = \"other\", internal = true }\n[upstream.app]\nservers = [\"@APP@\"]\n\
         [upstream.other]\nservers = [\"@OTHER@\"]\n[upstream.circle]\nservers = [\"@CIRCLE@\"]\n",
    )
    .fill("APP", app.address())
    .fill("OTHER", other.address())
    .fill("CIRCLE", circle.address())
    .start()
    .await;
    let answer = proxy.get("/page").header("x-mine", "1").await.expect(200);
    assert_eq!(answer.text(), "from elsewhere");
    assert_eq!(
        (&*answer.header("set-cookie"), &*answer.header("content-disposition")),
        ("a=b", "attachment")
    );
    let head = &other.heads()[0];
    assert!(head.starts_with("GET /other/a%20b?x=%41&y=1 HTTP/1.1"), "{head}");
    assert!(head.contains("x-mine: 1"), "{head}");
    proxy.get("/circle").await.expect(502);
    assert_eq!(circle.heads().len(), 11);
    proxy.post("/page", "a body").await.expect(502);
    eventually("nothing is in flight", async || proxy.inflight().await == [0]).await;
}

/// A proxy before two upstreams, `/internal` being an internal route to the second one.
async fn two(app: &Backend, other: &Backend) -> Proxy {
    Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         \"/internal/\" = { proxy = \"other\", internal = true }\n[upstream.app]\nservers = [\"@APP@\"]\n\
         [upstream.other]\nservers = [\"@OTHER@\"]\n",
    )
    .fill("APP", app.address())
    .fill("OTHER", other.address())
    .start()
    .await
}

#[tokio::test]
async fn no_redirect_to_another_upstream_leads_up() {
    let other = Backend::saying("from elsewhere").await;
    for path in [
        "/internal/../secret",
        "/internal/a/%2e%2E/%2e%2e/secret",
        "/internal/a/..%2f../secret",
        "/internal%2Fx",
        "//internal/x",
    ] {
        let app = Backend::answering(naming("X-Accel-Redirect", path)).await;
        two(&app, &other).await.get("/").await.expect(404);
    }
    assert_eq!(other.heads().len(), 0);
}

#[tokio::test]
async fn another_upstream_is_asked_for_something_and_never_told_to_do_something() {
    let other = Backend::saying("from elsewhere").await;
    let app = Backend::answering(naming("X-Accel-Redirect", "/internal/a")).await;
    let proxy = two(&app, &other).await;
    for method in ["POST", "DELETE", "HEAD"] {
        proxy.request(method, "/").await.expect(200);
    }
    let methods: Vec<_> = other.heads().iter().map(|head| head[..4].to_owned()).collect();
    assert_eq!(methods, ["GET ", "GET ", "HEAD"]);
}

#[tokio::test]
async fn the_rate_of_the_route_with_the_file_holds() {
    let scratch = Scratch::new();
    scratch.write("data/a.bin", noise(1 << 20));
    let app = Backend::answering(naming("X-Accel-Redirect", "/_x/a.bin")).await;
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         \"/_x\" = { files = \"@DATA@\", internal = true, limit_rate = \"1m\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("DATA", scratch.path("data").display())
    .fill("SERVER", app.address())
    .start()
    .await;
    let start = std::time::Instant::now();
    assert_eq!(proxy.get("/").await.expect(200).body.len(), 1 << 20);
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds >= 0.8, "{seconds} s for a mebibyte at 1m");
}

#[tokio::test]
async fn a_file_that_becomes_shorter_while_it_is_sent_ends_the_connection() {
    let scratch = Scratch::new();
    let file = scratch.write("root/a.bin", noise(64 << 20));
    let root = scratch.path("root");
    let proxy =
        Proxy::toml(&format!("[[site]]\n[site.routes]\n\"/\" = {{ files = {root:?} }}\n")).start().await;
    let answer = proxy.get("/a.bin").open().await.unwrap();
    std::fs::File::options().write(true).open(file).unwrap().set_len(1 << 20).unwrap();
    assert!(answer.whole().await.is_err(), "nothing is padded, and a part is not taken for the whole");
    proxy.get("/a.bin").await.expect(200);
}

#[tokio::test]
async fn what_is_not_for_clients_is_not_beside_a_file_or_an_archive_either() {
    let scratch = Scratch::new();
    let file = scratch.write("data/a.txt", "hello");
    let path = file.display().to_string();
    let app = Backend::answering(move |head| {
        let fields = "Content-Type: text/plain\r\nX-Load: 3\r\nConnection: X-Inner, keep-alive\r\nX-Inner: secret\r\n\
                      X-Accel-Charset: utf-8\r\nX-Outer: told\r\n";
        if head.starts_with("GET /archive") {
            let list = format!("- 5 /_x{path} a.txt\r\n");
            format!("HTTP/1.1 200 OK\r\n{fields}X-Archive-Files: zip\r\nContent-Length: {}\r\n\r\n{list}", list.len())
        } else {
            format!("HTTP/1.1 200 OK\r\n{fields}X-Accel-Redirect: /_x{path}\r\nContent-Length: 0\r\n\r\n")
        }
        .into_bytes()
    })
    .await;
    let proxy =
        Proxy::handing_over(&scratch.path("data"), &app).with("load_header = \"X-Load\"").start().await;
    for path in ["/file", "/archive"] {
        let answer = proxy.get(path).await.expect(200);
        assert_eq!([answer.header("x-load"), answer.header("x-inner")], ["", ""], "{path}");
        assert_eq!(answer.header("x-outer"), "told", "{path}");
    }
    assert_eq!(proxy.get("/file").await.header("content-type"), "text/plain; charset=utf-8");
}
