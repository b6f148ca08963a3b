//! `path`: another path for the server, and what it says about paths mapped back.

use crate::fixtures::{Backend, Proxy};

/// A server that responds with the path it was asked for, and with what the `answer` header of the request says.
async fn app() -> Backend {
    Backend::answering(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let lines = head.lines().filter_map(|line| line.strip_prefix("answer: "));
        let fields: String = lines.map(|line| format!("{line}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{path}", path.len()).into_bytes()
    })
    .await
}

async fn proxy(app: &Backend) -> Proxy {
    Proxy::toml(
        r#"
[[site]]
[site.routes]
"/up"     = { proxy = "app", path = "/files{rest}" }
"/app"    = { proxy = "app", path = "{rest}" }
"/off"    = { proxy = "app", path = "/files{rest}", rewrite_location = false }
"= /one"  = { proxy = "app", path = "/two" }
"/query"  = { proxy = "app", path = "/q?fixed=1" }
"~ ^/u/(?<name>[a-z]+)" = { proxy = "app", path = "/users/{name}{rest}" }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("APP", app.address())
    .start()
    .await
}

#[tokio::test]
async fn the_server_is_asked_for_another_path() {
    let app = app().await;
    let proxy = proxy(&app).await;
    for (asked, got) in [
        ("/up", "/files"),
        ("/up/", "/files/"),
        ("/up/a%2Fb?c=%20", "/files/a%2Fb?c=%20"),
        ("/up//./a", "/files/a"),
        ("/app", "/"),
        ("/app?x", "/?x"),
        ("/app/", "/"),
        ("/app/login", "/login"),
        ("/one?x=1", "/two?x=1"),
        ("/query/a?x=1", "/q?fixed=1&x=1"),
        ("/u/anna/x%20y", "/users/anna/x%20y"),
        ("/u/anna", "/users/anna"),
    ] {
        assert_eq!(proxy.get(asked).await.expect(200).text(), got, "{asked}");
    }
}

#[tokio::test]
async fn what_the_server_says_of_paths_is_mapped_back() {
    let app = app().await;
    let proxy = proxy(&app).await;
    let server = app.address();
    for (asked, name, sent, got) in [
        ("/up", "location", "/files/1".to_owned(), "/up/1"),
        ("/up", "location", "http://galaxy.example.org/files/1".into(), "http://galaxy.example.org/up/1"),
        ("/up", "location", format!("http://{server}/files/1"), "http://galaxy.example.org/up/1"),
        ("/up", "location", "http://app/files/1".into(), "http://galaxy.example.org/up/1"),
        (
            "/up",
            "location",
            "https://elsewhere.example.org/files/1".into(),
            "https://elsewhere.example.org/files/1",
        ),
        ("/up", "location", "/login".into(), "/login"),
        ("/up", "location", "1".into(), "1"),
        ("/up", "content-location", "/files/1?a".into(), "/up/1?a"),
        ("/up", "refresh", "5; url=/files/1".into(), "5; url=/up/1"),
        ("/up", "set-cookie", "a=b; Path=/files; HttpOnly".into(), "a=b; Path=/up; HttpOnly"),
        ("/app", "location", "/login?next=/x".into(), "/app/login?next=/x"),
        ("/app", "set-cookie", "a=b; path=/".into(), "a=b; Path=/app"),
        ("/off", "location", "/files/1".into(), "/files/1"),
        ("/off", "set-cookie", "a=b; Path=/files".into(), "a=b; Path=/files"),
        ("/one", "location", "/two".into(), "/one"),
        ("/one", "location", "/two/x".into(), "/two/x"),
        ("/u/anna/x", "location", "/users/anna/y".into(), "/u/anna/y"),
        ("/u/anna/x", "location", "/users/bob/y".into(), "/users/bob/y"),
    ] {
        let request = proxy.get(asked).header("host", "galaxy.example.org");
        let answer = request.header("answer", &format!("{name}: {sent}")).await;
        assert_eq!(answer.header(name), got, "{asked} {name}: {sent}");
    }
}

#[tokio::test]
async fn a_websocket_is_opened_at_the_other_path() {
    let app = Backend::serving(|mut wire, heads| async move {
        if let Some(head) = wire.head().await {
            heads.lock().expect("no panic").push(head);
            let _ = wire.try_send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
        }
    })
    .await;
    let proxy = proxy(&app).await;
    proxy
        .get("/up/ws?a=b")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .await
        .expect(404);
    assert_eq!(app.paths(), ["/files/ws?a=b"]);
}
