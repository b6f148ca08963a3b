//! Pages of other origins (the CORS protocol of the Fetch standard).

use crate::fixtures::{Answer, Backend, Proxy, Scratch};

const ORIGIN: &str = "https://usegalaxy.org";

async fn proxy(app: &Backend, scratch: &Scratch) -> Proxy {
    scratch.write("data/a.txt", "a");
    Proxy::toml(
        r#"
[cors.browsers]
origins = ["https://usegalaxy.org", '~ ^https://[a-z]+\.example\.org$']
methods = ["GET", "POST"]
headers = ["X-Api-Key"]
expose = ["Content-Length", "Content-Range"]
credentials = true
max_age = "10m"
[[site]]
cors = "browsers"
[site.routes]
"/"     = { proxy = "app" }
"/data" = { files = "@ROOT@/data" }
"/deny" = { answer = 200, deny = ["127.0.0.0/8"] }
"/open" = { answer = 200, cors = { origins = ["*"] } }
"/none" = { proxy = "app", cors = "none" }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("ROOT", scratch.root().display())
    .fill("APP", app.address())
    .start()
    .await
}

async fn app() -> Backend {
    Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Max-Age: 1\r\nVary: Cookie\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await
}

fn allowed(answer: &Answer) -> Vec<String> {
    answer.all("access-control-allow-origin")
}

#[tokio::test]
async fn every_response_says_who_may_read_it() {
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = proxy(&app, &scratch).await;
    for (path, status) in [("/", 200), ("/data/a.txt", 200), ("/data/none", 404), ("/deny", 403)] {
        for origin in [ORIGIN, "https://lab.example.org"] {
            let answer = proxy.get(path).header("origin", origin).await.expect(status);
            assert_eq!(allowed(&answer), [origin], "{path}");
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            assert_eq!(answer.header("access-control-expose-headers"), "content-length, content-range");
            assert_eq!(answer.all("access-control-max-age"), [""; 0], "the application's own are gone");
            assert!(answer.all("vary").contains(&"Origin".to_owned()), "{path}: {answer:?}");
        }
        for origin in
            ["https://evil.example.com", "https://usegalaxy.org.evil.com", "http://usegalaxy.org", "null"]
        {
            let answer = proxy.get(path).header("origin", origin).await.expect(status);
            assert_eq!(allowed(&answer), [""; 0], "{path} {origin}");
            assert!(answer.all("vary").contains(&"Origin".to_owned()), "{path}");
        }
    }
    let answer =
        proxy.get("/data/a.txt").header("origin", ORIGIN).header("range", "bytes=0-0").await.expect(206);
    assert_eq!(allowed(&answer), [ORIGIN], "of a part too");
    assert_eq!(allowed(&proxy.get("/open").header("origin", "https://any.example.com").await), ["*"]);
    assert_eq!(allowed(&proxy.get("/none").header("origin", ORIGIN).await), ["*"], "the application's own");
}

#[tokio::test]
async fn preflight_requests_are_answered_by_the_proxy() {
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = proxy(&app, &scratch).await;
    let preflight = |path: &str, origin: &str| {
        let request = proxy.request("OPTIONS", path).header("origin", origin);
        request
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-own")
    };
    for path in ["/", "/data/a.txt"] {
        let answer = preflight(path, ORIGIN).await.expect(204);
        assert_eq!(allowed(&answer), [ORIGIN]);
        assert_eq!(answer.header("access-control-allow-methods"), "GET, POST");
        assert_eq!(answer.header("access-control-allow-headers"), "x-api-key");
        assert_eq!(answer.header("access-control-max-age"), "600");
        let answer = preflight(path, "https://evil.example.com").await.expect(204);
        assert_eq!((allowed(&answer), answer.all("access-control-allow-methods")), (vec![], vec![]));
    }
    let answer = preflight("/open", "https://any.example.com").await.expect(204);
    assert_eq!(answer.header("access-control-allow-methods"), "PUT", "what is asked for");
    assert_eq!(answer.header("access-control-allow-headers"), "x-own");
    assert_eq!(app.heads().len(), 0);
    preflight("/none", ORIGIN).await.expect(200);
    proxy.request("OPTIONS", "/").header("origin", ORIGIN).await.expect(200);
    assert_eq!(app.heads().len(), 2, "other OPTIONS are for the application");
}
