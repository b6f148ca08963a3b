//! Users who must log in: by password, or as another service says.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    fixtures::{Answer, Backend, Proxy, Request, Scratch, answers, eventually, outcome, vacant},
    values::field,
};

/// anna's password is `secret`, as bcrypt with 2^11 rounds; bob's is `secret`, as apr1; carl's as SHA-512-crypt.
const HTPASSWD: &str = "anna:$2y$11$oPNLZ4pNaDKb7PB1WaK56uhPjnmC2nXNRjCsU7aQ2/K1Qw8.28o0K\n\
    bob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n\
    carl:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.\n";

fn login(request: Request, user: &str, password: &str) -> Request {
    request.header("authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

async fn by_password(app: &Backend, scratch: &Scratch) -> Proxy {
    let file = scratch.write("htpasswd", HTPASSWD);
    Proxy::toml(
        r#"
[auth.staff]
htpasswd = "@FILE@"
realm = "Galaxy reports"
remote_user = true
[[site]]
[site.routes]
"/"        = { proxy = "app", auth = "staff", request_headers = { X-User = "{user}" } }
"/open"    = { proxy = "app" }
"/either"  = { proxy = "app", auth = "staff", allow = ["127.0.0.0/8"], satisfy = "any" }
"/outside" = { proxy = "app", auth = "staff", allow = ["198.51.100.0/24"], satisfy = "any" }
"/both"    = { proxy = "app", auth = "staff", allow = ["198.51.100.0/24"] }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("FILE", file.display())
    .fill("APP", app.address())
    .start()
    .await
}

#[tokio::test]
async fn a_password_admits() {
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    let proxy = by_password(&app, &scratch).await;
    let answer = proxy.get("/").header("remote-user", "root").await.expect(401);
    assert_eq!(answer.header("www-authenticate"), "Basic realm=\"Galaxy reports\", charset=\"UTF-8\"");
    for user in ["anna", "bob", "carl"] {
        login(proxy.get("/"), user, "secret").header("remote-user", "root").await.expect(200);
        let head = app.heads().pop().unwrap();
        assert_eq!((field(&head, "remote-user"), field(&head, "x-user")), (user, user));
        assert!(!head.contains("root"), "{head}");
        login(proxy.get("/"), user, "wrong").await.expect(401);
    }
    login(proxy.get("/"), "dora", "secret").await.expect(401);
    for bad in ["Basic", "Basic ???", "Bearer secret", "Basic YW5uYQ=="] {
        proxy.get("/").header("authorization", bad).await.expect(401);
    }
    proxy.get("/open").await.expect(200);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bowshock_auth_requests_total", &["auth=\"staff\"", "result=\"admitted\""]), 3.0);
}

#[tokio::test]
async fn allow_or_a_login_is_enough_where_the_route_says_so() {
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    let proxy = by_password(&app, &scratch).await;
    proxy.get("/either").header("remote-user", "root").await.expect(200);
    assert!(!app.heads().pop().unwrap().contains("root"), "nobody has logged in");
    proxy.get("/outside").await.expect(401);
    login(proxy.get("/outside"), "bob", "secret").await.expect(200);
    login(proxy.get("/both"), "bob", "secret").await.expect(403);
}

#[tokio::test]
async fn a_changed_file_counts_without_a_reload() {
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    let proxy = by_password(&app, &scratch).await;
    login(proxy.get("/"), "bob", "secret").await.expect(200);
    scratch.write("htpasswd", "dora:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    eventually("dora is admitted", async || login(proxy.get("/"), "dora", "secret").await.status == 200)
        .await;
    login(proxy.get("/"), "bob", "secret").await.expect(401);
}

#[tokio::test]
async fn the_requests_of_a_browser_cost_one_hash() {
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    let proxy = by_password(&app, &scratch).await;
    let all: Vec<_> = (0..200).map(|_| login(proxy.get("/"), "anna", "secret").spawn()).collect();
    // All at once: the queue of hashes has room for eight of a client.
    assert_eq!(answers(all).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_are_bounded() {
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    let proxy = by_password(&app, &scratch).await;
    let tried: Vec<_> =
        (0..60).map(|number| login(proxy.get("/"), "anna", &format!("wrong{number}")).spawn()).collect();
    let mut refused = [0, 0];
    for tried in tried {
        match outcome(tried).await.status {
            401 => refused[0] += 1,
            503 => refused[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused[0] >= 8 && refused[1] > 0, "one client has at most eight waiting: {refused:?}");
}

/// A service like oauth2-proxy: the cookie `session` is the status, and the user.
async fn service() -> Backend {
    Backend::answering(|head| {
        let session = field(head, "cookie").trim_start_matches("session=").to_owned();
        let (status, user) = session.split_once('-').unwrap_or(("401 Unauthorized", ""));
        format!(
            "HTTP/1.1 {status} X\r\nX-Auth-Request-User: {user}\r\nSet-Cookie: fresh=1\r\n\
             WWW-Authenticate: Bearer\r\nContent-Length: 4\r\n\r\nbody"
        )
        .into_bytes()
    })
    .await
}

async fn by_service(app: &Backend, service: &str) -> Proxy {
    Proxy::toml(
        r#"
[auth.portal]
request = "portal"
path = "/oauth2/auth"
copy = ["X-Auth-Request-User", "X-Auth-Request-Email"]
sign_in = "/oauth2/start?rd={uri}"
remote_user = true
[[site]]
auth = "portal"
[site.routes]
"/"       = { proxy = "app" }
"/oauth2" = { proxy = "portal", auth = "none" }
[upstream.app]
servers = ["@APP@"]
[upstream.portal]
servers = ["@PORTAL@"]
"#,
    )
    .fill("APP", app.address())
    .fill("PORTAL", service)
    .start()
    .await
}

#[tokio::test]
async fn a_service_admits_and_names_the_user() {
    let (app, service) = (Backend::saying("ok").await, service().await);
    let proxy = by_service(&app, &service.address()).await;
    let answer = proxy
        .post("/api/x?a=b", "the body")
        .header("cookie", "session=200-anna")
        .header("x-auth-request-user", "root")
        .header("x-auth-request-email", "root@example.org")
        .header("x-original-uri", "/elsewhere")
        .await
        .expect(200);
    assert_eq!(answer.all("set-cookie"), ["fresh=1"], "the service renews its session");
    let asked = service.heads().remove(0);
    assert!(asked.starts_with("GET /oauth2/auth HTTP/1.1\r\n"), "{asked}");
    assert_eq!((field(&asked, "x-original-uri"), field(&asked, "x-original-method")), ("/api/x?a=b", "POST"));
    assert_eq!((field(&asked, "content-length"), field(&asked, "x-forwarded-for")), ("", "127.0.0.1"));
    let head = app.heads().remove(0);
    assert_eq!((field(&head, "x-auth-request-user"), field(&head, "remote-user")), ("anna", "anna"));
    assert_eq!((field(&head, "x-auth-request-email"), field(&head, "content-length")), ("", "8"));
}

fn location(answer: &Answer) -> String {
    answer.header("location")
}

#[tokio::test]
async fn a_service_refuses() {
    let (app, service) = (Backend::saying("ok").await, service().await);
    let proxy = by_service(&app, &service.address()).await;
    let browser = |path: &str| proxy.get(path).header("accept", "text/html,*/*");
    let answer = browser("/history?id=1&x").await.expect(302);
    assert_eq!(location(&answer), "/oauth2/start?rd=/history%3Fid%3D1%26x");
    let answer = proxy.get("/api").header("accept", "application/json").await.expect(401);
    assert!(answer.json()["err_msg"].is_string());
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    proxy.post("/form", "x").header("accept", "text/html").await.expect(401);
    browser("/").header("cookie", "session=403-anna").await.expect(403);
    browser("/").header("cookie", "session=500-anna").await.expect(502);
    assert_eq!(app.heads().len(), 0);
    proxy.get("/oauth2/sign_in").await;
    assert_eq!(service.paths().pop().as_deref(), Some("/oauth2/sign_in"));
}

#[tokio::test]
async fn a_service_that_restarts_is_waited_for() {
    let app = Backend::saying("ok").await;
    let address = vacant();
    let proxy = by_service(&app, &address).await;
    let asked = proxy.get("/").header("cookie", "session=200-anna").spawn();
    eventually("it waits", async || proxy.upstream("portal").await["waiting"] == 1).await;
    let portal = Backend::saying_at(&address, "").await;
    outcome(asked).await.expect(200);
    assert_eq!(portal.paths(), ["/oauth2/auth"]);
}
