//! `{names}` in headers, redirects and files; headers that are set and removed.

use crate::fixtures::{Backend, Proxy, Scratch};

/// The value of a header in a head as a server got it; empty where there is none.
pub fn field<'h>(head: &'h str, name: &str) -> &'h str {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    values.next().unwrap_or_default()
}

#[tokio::test]
async fn servers_get_headers_that_the_configuration_sets() {
    let app = Backend::saying("ok").await;
    let scratch = Scratch::new();
    let secret = scratch.write("secret", "s3cret\nsecond line\n");
    let proxy = Proxy::toml(
        r#"
[[site]]
host = '~^(?<lab>[a-z]+)\.example\.org$'
request_headers = { GX-SECRET = "file:@SECRET@", X-Lab = "{lab}", Accept-Language = false }
[site.routes]
"/" = { proxy = "app", request_headers = { X-All = "{method} {scheme} {host} {port} {client} {path} {query} {uri}", X-Lab = "lab {lab}", X-Next = "{query.next}", X-Session = "{cookie.galaxysession}", X-Agent = "{header.user-agent}", X-Empty = "{query.none}" } }
"~ ^/u/(?<name>[^/]+)" = { proxy = "app", request_headers = { X-Name = "{name}", X-Rest = "{rest}" } }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("SECRET", secret.display())
    .fill("APP", app.address())
    .start()
    .await;
    let ask = |path: &str| proxy.get(path).header("host", "berlin.example.org:8443");
    ask("/a%2Fb?next=%2Fx+y%0d%0aX-Evil:1&z=1")
        .header("cookie", "galaxysession=abc")
        .header("user-agent", "curl/8")
        .header("accept-language", "de")
        .header("gx-secret", "guessed")
        .header("x-empty", "from the client")
        .await
        .expect(200);
    let head = app.heads().remove(0);
    for (name, value) in [
        ("gx-secret", "s3cret"),
        ("x-lab", "lab berlin"),
        ("accept-language", ""),
        (
            "x-all",
            "GET http berlin.example.org 8443 127.0.0.1 /a%2Fb next=%2Fx+y%0d%0aX-Evil:1&z=1 \
             /a%2Fb?next=%2Fx+y%0d%0aX-Evil:1&z=1",
        ),
        ("x-next", "/x y%0D%0AX-Evil:1"),
        ("x-session", "abc"),
        ("x-agent", "curl/8"),
        ("x-empty", ""),
        ("x-evil", ""),
    ] {
        assert_eq!(field(&head, name), value, "{name} in {head}");
    }
    ask("/u/anna%20b/c%2Fd").await.expect(200);
    let head = app.heads().remove(1);
    assert_eq!((field(&head, "x-name"), field(&head, "x-rest")), ("anna b", "/c%2Fd"));
    assert_eq!(field(&head, "x-lab"), "berlin", "of the site");
}

#[tokio::test]
async fn clients_get_headers_that_the_configuration_sets() {
    let app = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nX-Powered-By: Galaxy\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let proxy = Proxy::toml(
        r#"
[[site]]
headers = { Server = false, X-Site = "{host}", X-Id = "{request_id}" }
[site.routes]
"/" = { proxy = "app", headers = { X-Powered-By = "", X-Tag = "{response.etag}", X-None = "{response.x-none}" } }
"/fixed" = { answer = 404, headers = { X-Json = '{{"a":"{path}"}}' } }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("APP", app.address())
    .start()
    .await;
    let answer = proxy.get("/").header("host", "a.example.org").await.expect(200);
    assert_eq!(answer.header("x-site"), "a.example.org");
    assert_eq!(answer.header("x-tag"), "\"1\"");
    assert_eq!(answer.header("x-id"), answer.header("x-request-id"));
    for gone in ["server", "x-powered-by", "x-none"] {
        assert_eq!(answer.all(gone), [""; 0], "{gone}");
    }
    let answer = proxy.get("/fixed").header("host", "b.example.org").await.expect(404);
    assert_eq!(
        (answer.header("x-json").as_str(), answer.header("x-site").as_str()),
        ("{\"a\":\"/fixed\"}", "b.example.org")
    );
}

#[tokio::test]
async fn errors_without_a_route_have_the_headers_of_the_site() {
    let text = "[[site]]\nheaders = { X-Site = \"{path}\" }\n[site.routes]\n\"/here\" = { answer = 204 }\n";
    let proxy = Proxy::toml(text).start().await;
    assert_eq!(proxy.get("/nowhere").await.expect(404).header("x-site"), "/nowhere");
}

#[tokio::test]
async fn redirects_are_made_of_the_request() {
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"/uri"  = { redirect = "https://new.example.org{uri}" }
"/path" = { redirect = "https://new.example.org{path}", status = 301 }
"/rest" = { redirect = "/new{rest}" }
"/with" = { redirect = "/else?{query}" }
"/next" = { redirect = "/login?next={query.next}&from={uri}" }
"/open" = { redirect = "/{query.next}" }
"~ ^/u/(?<name>.+)$" = { redirect = "https://{host}/user/{name}?raw={name}" }
"#,
    )
    .start()
    .await;
    for (path, to) in [
        ("/uri/a%20b?c=d&e", "https://new.example.org/uri/a%20b?c=d&e"),
        ("/path/a?c=d", "https://new.example.org/path/a"),
        ("/rest/a%2Fb", "/new/a%2Fb"),
        ("/rest", "/new"),
        ("/with?a=b", "/else?a=b"),
        ("/with", "/else"),
        ("/next?next=a%26b%3D1", "/login?next=a%26b%3D1&from=/next%3Fnext%3Da%2526b%253D1"),
        ("/open?next=/evil.example.org", "/evil.example.org"),
        ("/open?next=%5Cevil.example.org", "/%5Cevil.example.org"),
        ("/u/a?b", "https://galaxy.example.org/user/a?raw=a"),
        ("/u/a%3Fb%26c", "https://galaxy.example.org/user/a%3Fb&c?raw=a%3Fb%26c"),
    ] {
        let answer = proxy.get(path).header("host", "galaxy.example.org:8080").await;
        assert_eq!(answer.header("location"), to, "{path}");
    }
}

#[tokio::test]
async fn the_request_chooses_a_file_within_the_directory() {
    let scratch = Scratch::new();
    scratch.write("hosts/a.example.org/welcome.html", "welcome to a");
    scratch.write("hosts/secret", "SECRET");
    scratch.write("users/anna/x.txt", "anna");
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"= /welcome" = { files = "@ROOT@/hosts/{host}/welcome.html" }
"/mine"      = { files = "@ROOT@/users/{cookie.user}" }
"#,
    )
    .fill("ROOT", scratch.root().display())
    .start()
    .await;
    assert_eq!(proxy.get("/welcome").header("host", "a.example.org").await.text(), "welcome to a");
    proxy.get("/welcome").header("host", "b.example.org").await.expect(404);
    let mine = |user: &str| proxy.get("/mine/x.txt").header("cookie", &format!("user={user}"));
    assert_eq!(mine("anna").await.text(), "anna");
    for other in ["../hosts", "..", "anna/../../hosts", "anna/.", "none", ""] {
        mine(other).await.expect(404);
    }
}
