//! Which site and which route a request is for.

use crate::fixtures::{Backend, Gunicorn, Proxy, Scratch, received};

async fn text(proxy: &Proxy, path: &str) -> String {
    proxy.get(path).await.text()
}

#[tokio::test]
async fn precedence_is_that_of_nginx() {
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"~ \\.png$"        = { answer = 200, body = "first regex" }
"~* ^/any"         = { answer = 200, body = "regex without case" }
"~ ^/any"          = { answer = 200, body = "second regex" }
"/"                = { answer = 200, body = "root" }
"/static"          = { answer = 200, body = "static" }
"/static/deep"     = { answer = 200, body = "deep" }
"^~ /static/final" = { answer = 200, body = "final" }
"= /static/exact"  = { answer = 200, body = "exact" }
"= /"              = { answer = 200, body = "home" }
"#,
    )
    .start()
    .await;
    for (path, body) in [
        ("/", "home"),
        ("/?x=1", "home"),
        ("/x", "root"),
        ("/static", "static"),
        ("/static/", "static"),
        ("/static/x", "static"),
        ("/static?x", "static"),
        ("/staticky", "root"),
        ("/static.css", "root"),
        ("/static/deep", "deep"),
        ("/static/deep/er", "deep"),
        ("/static/deeper", "static"),
        ("/static/exact", "exact"),
        ("/static/exact/", "static"),
        ("/static/x.png", "first regex"),
        ("/x.png?y", "first regex"),
        ("/x?y.png", "root"),
        ("/x.PNG", "root"),
        ("/static/final/x.png", "final"),
        ("/any.png", "first regex"),
        ("/anything", "regex without case"),
        ("/ANYthing", "regex without case"),
        ("/STATIC", "root"),
    ] {
        assert_eq!(text(&proxy, path).await, body, "{path}");
    }
}

#[tokio::test]
async fn captures_name_the_file() {
    let scratch = Scratch::new();
    scratch.write("plugins/scatter/static/js/plot.js", "plot()");
    scratch.write("secret/static/x", "SECRET");
    scratch.write("icon", "icon");
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
'~ ^/plugins/(?<name>[^/]+)/static/(?<file>.*)$' = { files = "@ROOT@/plugins/{name}/static/{file}" }
"= /favicon.ico" = { files = "@ROOT@/icon" }
"#,
    )
    .fill("ROOT", scratch.root().display())
    .start()
    .await;
    assert_eq!(text(&proxy, "/plugins/scatter/static/js/plot.js").await, "plot()");
    assert_eq!(text(&proxy, "/favicon.ico").await, "icon");
    for path in [
        "/plugins/scatter/static/none.js",
        "/plugins/../static/x",
        "/plugins/%2e%2e/static/x",
        "/plugins/scatter/static/../../../secret/static/x",
        "/plugins/scatter/static/..%2f..%2f..%2fsecret/static/x",
        "/plugins/..%2fsecret/static/x",
        "/plugins/x/y/static/plot.js",
    ] {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = wire.answer().await.expect("an answer");
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.text().contains("SECRET"), "{path}");
    }
}

#[tokio::test]
async fn redirects_carry_path_and_query_as_they_were_sent() {
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"/old"    = { redirect = "https://new.example.org{uri}", status = 301 }
"/here"   = { redirect = "/there" }
"/host"   = { redirect = "https://{host}{uri}", status = 308 }
"#,
    )
    .start()
    .await;
    let answer = proxy.get("/old/a%2Fb?q=%20&r").await.expect(301);
    assert_eq!(answer.header("location"), "https://new.example.org/old/a%2Fb?q=%20&r");
    assert_eq!(proxy.get("/here").await.expect(302).header("location"), "/there");
    let answer = proxy.request("POST", "/host").header("host", "galaxy.example.org").await.expect(308);
    assert_eq!(answer.header("location"), "https://galaxy.example.org/host");
}

#[tokio::test]
async fn answers_have_the_body_and_type_that_are_written() {
    let proxy = Proxy::toml(
        r#"
[[site]]
headers = { X-Site = "site", X-Both = "from the site" }
[site.routes]
"/robots.txt" = { answer = 200, body = "User-agent: *\n", headers = { X-Both = "from the route", X-Route = "route" } }
"/json"       = { answer = 200, body = "{}", type = "application/json" }
"/gone"       = { answer = 410 }
"/empty"      = { answer = 204 }
"#,
    )
    .start()
    .await;
    let robots = proxy.get("/robots.txt").await.expect(200);
    assert_eq!(robots.text(), "User-agent: *\n");
    assert!(robots.header("content-type").starts_with("text/plain"));
    assert_eq!(robots.all("x-both"), ["from the route"], "deeper replaces the same name");
    assert_eq!(robots.header("x-site"), "site", "and only that");
    assert_eq!(robots.header("x-route"), "route");
    assert_eq!(proxy.get("/json").await.header("content-type"), "application/json");
    let gone = proxy.get("/gone").header("accept", "application/json").await.expect(410);
    assert!(!gone.json()["err_msg"].as_str().unwrap().is_empty(), "an error has the proxy's own page");
    assert_eq!(gone.header("x-site"), "site");
    assert!(proxy.get("/empty").await.expect(204).body.is_empty());
    let none = proxy.get("/none").header("accept", "application/json").await.expect(404);
    assert!(!none.json()["err_msg"].as_str().unwrap().is_empty());
    assert!(!none.header("x-request-id").is_empty());
}

#[tokio::test]
async fn headers_are_set_on_proxied_answers_and_errors_too() {
    let worker = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Frame-Options: DENY\r\n\r\n".to_vec()
    })
    .await;
    let proxy = Proxy::toml(
        r#"
[[site]]
headers = { X-Frame-Options = "SAMEORIGIN", Strict-Transport-Security = "max-age=1" }
[site.routes]
"/" = { proxy = "app" }
"/down" = { proxy = "nobody" }
[upstream.app]
servers = ["@APP@"]
[upstream.nobody]
servers = []
hold = "0s"
"#,
    )
    .fill("APP", worker.address())
    .start()
    .await;
    let answer = proxy.get("/").await.expect(200);
    assert_eq!(answer.all("x-frame-options"), ["SAMEORIGIN"]);
    assert_eq!(answer.header("strict-transport-security"), "max-age=1");
    assert_eq!(proxy.get("/down").await.expect(503).header("strict-transport-security"), "max-age=1");
}

#[tokio::test]
async fn sites_are_found_by_host() {
    let proxy = Proxy::toml(
        r#"
[[site]]
host = ["galaxy.example.org", "www.example.org"]
routes = { "/" = { answer = 200, body = "exact" } }
[[site]]
host = "*.ep.example.org"
routes = { "/" = { answer = 200, body = "suffix" } }
[[site]]
host = '~^[a-z]+\.example\.net$'
routes = { "/" = { answer = 200, body = "regex" } }
[[site]]
host = "one.ep.example.org"
routes = { "/" = { answer = 200, body = "exact beats suffix" } }
[[site]]
routes = { "/" = { answer = 200, body = "default" } }
"#,
    )
    .start()
    .await;
    for (host, body) in [
        ("galaxy.example.org", "exact"),
        ("GALAXY.example.ORG", "exact"),
        ("galaxy.example.org:8080", "exact"),
        ("galaxy.example.org.", "exact"),
        ("www.example.org", "exact"),
        ("a.ep.example.org", "suffix"),
        ("a.b.ep.example.org", "suffix"),
        ("ep.example.org", "default"),
        ("xep.example.org", "default"),
        ("one.ep.example.org", "exact beats suffix"),
        ("abc.example.net", "regex"),
        ("ABC.example.net:80", "regex"),
        ("a1.example.net", "default"),
        ("127.0.0.1", "default"),
        ("[::1]:80", "default"),
    ] {
        assert_eq!(proxy.get("/").header("host", host).await.expect(200).text(), body, "{host}");
    }
}

#[tokio::test]
async fn without_a_default_site_unknown_hosts_get_no_page_of_another() {
    let proxy = Proxy::toml(
        "[[site]]\nhost = \"galaxy.example.org\"\nroutes = { \"/\" = { answer = 200, body = \"mine\" } }",
    )
    .start()
    .await;
    let answer = proxy.get("/").header("host", "other.example.org").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn other_methods_than_those_of_the_route_are_405() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"/" = { proxy = "app", methods = ["GET", "PUT"] }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("APP", worker.address())
    .start()
    .await;
    proxy.get("/echo").await.expect(200);
    proxy.request("HEAD", "/echo").await.expect(200);
    proxy.request("PUT", "/echo").await.expect(200);
    let answer = proxy.post("/echo", "x").header("accept", "application/json").await.expect(405);
    let allow = answer.header("allow");
    assert!(["GET", "HEAD", "PUT"].iter().all(|method| allow.contains(method)), "{allow}");
    assert!(answer.json()["err_msg"].is_string());
}

const LIMITED: &str = r#"
[[site]]
max_body = "1k"
[site.routes]
"/" = { proxy = "app" }
"/upload" = { proxy = "app", max_body = "none" }
[upstream.app]
servers = ["@APP@"]
"#;

#[tokio::test]
async fn a_body_past_its_limit_is_413() {
    let scratch = Scratch::new();
    let log = scratch.path("app.log");
    let worker = Gunicorn::app().log(&log).start().await;
    let proxy = Proxy::toml(LIMITED).fill("APP", worker.address()).start().await;
    proxy.post("/count", vec![b'x'; 1024]).header("x-id", "fits").await.expect(200);
    let answer = proxy.post("/count", vec![b'x'; 1025]).header("x-id", "by-length").await.expect(413);
    assert!(!answer.text().is_empty());
    assert_eq!(
        proxy.post("/upload", vec![b'x'; 5000]).await.expect(200).json()["length"],
        5000,
        "no limit there"
    );

    let mut chunked = proxy.wire().await;
    chunked
        .send("POST /count HTTP/1.1\r\nHost: x\r\nX-Id: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        // The proxy may have answered and closed before the last one.
        let _ = chunked.try_send(format!("200\r\n{}\r\n", "x".repeat(512))).await;
    }
    let _ = chunked.try_send("0\r\n\r\n").await;
    chunked.answer().await.expect("an answer").expect(413);

    let mut expecting = proxy.wire().await;
    expecting
        .send("POST /count HTTP/1.1\r\nHost: x\r\nX-Id: e\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n")
        .await;
    expecting.answer().await.expect("an answer").expect(413);
    let received = received(&log);
    assert_eq!(received.keys().collect::<Vec<_>>(), ["fits"], "nothing of the others");
}

#[tokio::test]
async fn what_a_redirect_captures_is_encoded_again() {
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n'~ ^/old/(?<rest>.*)$' = { redirect = \"https://new/{rest}\" }",
    )
    .start()
    .await;
    let answer = proxy.get("/old/a%20b%3Fc%23d").send().await.unwrap().expect(302);
    assert_eq!(answer.header("location"), "https://new/a%20b%3Fc%23d");
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_a_route() {
    let worker = Backend::saying("ok").await;
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"/"      = { proxy = "galaxy" }
"/admin" = { proxy = "galaxy", allow = ["192.0.2.1"] }
"/jump"  = { proxy = "galaxy" }
[upstream.galaxy]
servers = ["@SERVER@"]
"#,
    )
    .fill("SERVER", worker.address())
    .start()
    .await;
    let ask = async |path: &str| {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        wire.answer().await.expect("an answer")
    };
    for path in [
        "/admin/x/../../y",
        "/admin/%2e%2e/y",
        "/admin/.%2E/y",
        "/admin%2F..%2Fy",
        "/admin%2fx",
        "//admin/x",
        "/./admin/x",
        "/y/a%2Fb/../../../admin",
        "http://x/admin/../y",
    ] {
        let answer = ask(path).await;
        assert!(matches!(answer.status, 400 | 403), "{path}: {answer:?}");
    }
    assert!(worker.paths().is_empty(), "{:?}", worker.paths());
    let passed = ["/api/tools/a%2Frepos%2Fb", "/a/../b", "//a/./b", "/a?b=/../admin"];
    for path in passed {
        ask(path).await.expect(200);
    }
    assert_eq!(worker.paths(), passed);
}
