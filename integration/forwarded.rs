//! Nobody is believed who is not named.

use serde_json::Value;

use crate::fixtures::{Answer, Backend, Frames, Gunicorn, Proxy, Request, Scratch, Wire, frames};

/// The values that the application got for a header, in order.
fn got(echo: &Value, name: &str) -> Vec<String> {
    let pairs = echo["headers"].as_array().unwrap().iter();
    pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

/// The client that the application would believe: the first address of the only X-Forwarded-For.
fn client(echo: &Value) -> String {
    let values = got(echo, "x-forwarded-for");
    assert_eq!(values.len(), 1, "always there, and once: {values:?}");
    let first = values[0].split(',').next().unwrap().trim().to_owned();
    assert_eq!(got(echo, "x-real-ip"), [first.as_str()], "X-Real-IP agrees");
    first
}

async fn echo(request: Request) -> Value {
    request.await.expect(200).json()
}

#[tokio::test]
async fn no_spelling_of_a_trusted_header_passes_an_untrusted_listener() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    let names = [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded_For",
        "X_FORWARDED-FOR",
        "X-Forwarded-Proto",
        "X_Forwarded_Proto",
        "X-Forwarded-Host",
        "x_forwarded_host",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Forwarded-Prefix",
        "X-Forwarded-Scheme",
        "X-Forwarded-User",
        "Forwarded",
        "FORWARDED",
        "X-Real-IP",
        "X_Real_IP",
        "x-real-ip",
        "X-Url-Scheme",
        "X_URL_SCHEME",
        "x-url_scheme",
        "REMOTE_USER",
        "remote-user",
        "Remote-User",
        "Remote_User",
        "REMOTE-USER",
        "GX_SECRET",
        "GX-Secret",
        "gx-secret",
        "Gx_Secret",
        "any_underscore",
    ];
    for name in names {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET /echo HTTP/1.1\r\nHost: x\r\n{name}: evil\r\nX-Mine: kept\r\n\r\n")).await;
        let echo = wire.answer().await.expect("an answer").expect(200).json();
        assert!(!echo.to_string().contains("evil"), "{name} arrived: {echo}");
        assert_eq!(got(&echo, "x-mine"), ["kept"], "the others pass");
        assert_eq!(client(&echo), "127.0.0.1");
    }
}

#[tokio::test]
async fn the_proxy_tells_who_asked_for_what() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    let answer: Answer = proxy.get("/echo").header("host", "galaxy.example.org").await.expect(200);
    let echo = answer.json();
    assert_eq!(got(&echo, "host"), ["galaxy.example.org"], "Host as the client sent it");
    assert_eq!(client(&echo), "127.0.0.1");
    assert_eq!(got(&echo, "x-forwarded-proto"), ["http"]);
    assert_eq!(got(&echo, "x-forwarded-host"), ["galaxy.example.org"]);
    assert_eq!(got(&echo, "x-forwarded-port").len(), 1);
    assert_eq!(got(&echo, "x-request-id"), [answer.header("x-request-id")]);
}

#[tokio::test]
async fn a_trusted_chain_is_walked_from_the_right() {
    let worker = Gunicorn::app().start().await;
    let trust = "trust = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"fd00::/8\"]";
    let proxy = Proxy::to([worker.address()]).listener(trust).start().await;
    for (sent, believed) in [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("1.1.1.1,203.0.113.7 ,10.1.2.3,10.3.2.1", "203.0.113.7"),
        ("10.9.9.9, 203.0.113.7, fd00::5", "203.0.113.7"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("2001:db8::7", "2001:db8::7"),
        ("", "127.0.0.1"),
    ] {
        let echo = echo(proxy.get("/echo").header("x-forwarded-for", sent)).await;
        assert_eq!(client(&echo), believed, "of {sent:?}");
        assert!(
            !echo.to_string().contains("1.1.1.1"),
            "left of the first untrusted one is forgotten: {echo}"
        );
    }
    let two_lines =
        proxy.get("/echo").header("x-forwarded-for", "1.1.1.1").header("x-forwarded-for", "203.0.113.7");
    assert_eq!(client(&echo(two_lines).await), "203.0.113.7", "two lines are one chain");
    assert_eq!(client(&echo(proxy.get("/echo")).await), "127.0.0.1", "nothing said");
}

#[tokio::test]
async fn what_is_not_an_address_ends_the_chain() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).listener("trust = [\"127.0.0.0/8\"]").start().await;
    for sent in ["203.0.113.7, unknown", "203.0.113.7, <script>", "203.0.113.7, 127.0.0.1.example.org"] {
        let echo = echo(proxy.get("/echo").header("x-forwarded-for", sent)).await;
        assert_eq!(client(&echo), "127.0.0.1", "of {sent:?}");
        assert!(!echo.to_string().contains("203.0.113.7"), "{echo}");
    }
}

#[tokio::test]
async fn a_trusted_peer_tells_scheme_and_host() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).listener("trust = [\"127.0.0.1\"]").start().await;
    let request = proxy
        .get("/echo")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "galaxy.example.org");
    let echo = echo(request).await;
    assert_eq!(got(&echo, "x-forwarded-proto"), ["https"]);
    assert_eq!(got(&echo, "x-forwarded-host"), ["galaxy.example.org"]);
}

#[tokio::test]
async fn a_peer_outside_the_trusted_networks_is_not_believed() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).listener("trust = [\"10.0.0.0/8\"]").start().await;
    let request =
        proxy.get("/echo").header("x-forwarded-for", "10.0.0.1").header("x-forwarded-proto", "https");
    let echo = echo(request).await;
    assert_eq!(client(&echo), "127.0.0.1");
    assert_eq!(got(&echo, "x-forwarded-proto"), ["http"]);
}

const UNIX: &str = r#"
[[listen]]
address = "unix:@SOCKET@"
@TRUST@
[[site]]
[site.routes]
"/" = { proxy = "app" }
[upstream.app]
servers = ["@SERVER@"]
"#;

/// What the application sees of a client on a unix socket with these lines in its listener.
async fn through_unix(trust: &str, chain: Option<&str>) -> Value {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::toml(UNIX)
        .fill("SOCKET", scratch.path("p.sock").display())
        .fill("TRUST", trust)
        .fill("SERVER", worker.address())
        .start()
        .await;
    let mut request = proxy.get("/echo");
    if let Some(chain) = chain {
        request = request.header("x-forwarded-for", chain);
    }
    echo(request).await
}

#[tokio::test]
async fn trust_all_believes_the_peers_of_a_socket_and_not_the_addresses_in_the_chain() {
    let echo = through_unix("trust = \"all\"", Some("1.1.1.1, 203.0.113.7")).await;
    assert_eq!(client(&echo), "203.0.113.7");
    assert!(!echo.to_string().contains("1.1.1.1"));
}

#[tokio::test]
async fn a_unix_client_without_a_believed_address_is_loopback() {
    assert_eq!(client(&through_unix("", None).await), "127.0.0.1");
    assert_eq!(client(&through_unix("", Some("203.0.113.7")).await), "127.0.0.1");
    assert_eq!(client(&through_unix("trust = \"all\"", None).await), "127.0.0.1");
}

#[tokio::test]
async fn unix_peers_may_be_trusted_by_user() {
    let ours = rustix::process::getuid().as_raw();
    let trusted = through_unix(&format!("trust = [{ours}]"), Some("203.0.113.7")).await;
    assert_eq!(client(&trusted), "203.0.113.7");
    let another = through_unix(&format!("trust = [{}]", ours + 1), Some("203.0.113.7")).await;
    assert_eq!(client(&another), "127.0.0.1");
}

#[tokio::test]
async fn a_path_arrives_byte_for_byte() {
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let paths = [
        "/api/tools/toolshed.g2.bx.psu.edu%2Frepos%2Fdevteam%2Fbowtie2",
        "/a//b///c",
        "/a%20b%c3%a9%zz%2e",
        "/a;b=c,d/$&'()*+!~@:",
        "/a|b^c{d}\"e",
        "/a?b=%2F&c=//d?e&f=[]{}|",
        "/?",
    ];
    for path in paths {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
    }
    assert_eq!(backend.paths(), paths);
}

#[tokio::test]
async fn unknown_methods_pass() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    for method in ["PROPFIND", "MKCOL", "OPTIONS", "PATCH", "DELETE", "BREW"] {
        assert_eq!(echo(proxy.request(method, "/echo")).await["method"], method);
    }
}

#[tokio::test]
async fn connection_cannot_strip_what_the_proxy_says() {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    let mut wire: Wire = proxy.wire().await;
    wire.send(
        "GET /echo HTTP/1.1\r\nHost: x\r\nX-Hop: one\r\nX-End: two\r\n\
         Connection: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, X-Request-Id, X-Hop, Host\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await.expect("an answer").expect(200);
    let echo = answer.json();
    assert_eq!(client(&echo), "127.0.0.1");
    assert_eq!(got(&echo, "x-forwarded-proto"), ["http"]);
    assert_eq!(got(&echo, "x-request-id").len(), 1);
    assert_eq!(got(&echo, "host"), ["x"]);
    assert!(got(&echo, "x-hop").is_empty(), "a named hop-by-hop header ends here");
    assert_eq!(got(&echo, "x-end"), ["two"]);
}

#[tokio::test]
async fn the_mode_of_a_unix_socket_is_the_one_that_is_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let worker = Backend::saying("ok").await;
    let socket = scratch.path("p.sock");
    let proxy = Proxy::toml(UNIX)
        .fill("SOCKET", socket.display())
        .fill("TRUST", "mode = \"0660\"")
        .fill("SERVER", worker.address())
        .start()
        .await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    proxy.get("/").await.expect(200);
}

/// What a worker got of X-Forwarded-Proto, -Host and -Port.
fn place(head: &str) -> [String; 3] {
    ["proto", "host", "port"].map(|what| {
        let start = format!("x-forwarded-{what}: ");
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&start));
        line.expect("it is always told")[start.len()..].to_owned()
    })
}

#[tokio::test]
async fn however_a_trusted_peer_says_https_it_is_https() {
    let worker = Backend::saying("ok").await;
    let mut proxy = Proxy::toml(
        r#"
[[listen]]
address = "127.0.0.1:0"
trust = ["127.0.0.1"]
[[site]]
redirect_https = true
[site.routes]
"/" = { proxy = "app" }
[upstream.app]
servers = ["@SERVER@"]
"#,
    )
    .fill("SERVER", worker.address())
    .start()
    .await;
    let ask = async |fields: &str| {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        wire.answer().await.expect("an answer")
    };
    for (fields, host, port) in [
        ("Host: h\r\nX-Forwarded-Proto: https, https", "h", "443"),
        ("Host: h:8443\r\nX-Forwarded-Proto: HTTPS", "h:8443", "8443"),
        ("Host: h\r\nX-Forwarded-Proto: wss\r\nX-Forwarded-Port: 444", "h", "444"),
        ("Host: h\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Host: a.example:445", "a.example:445", "445"),
        ("Host: h:1\r\nX-Forwarded-Scheme: https\r\nX-Forwarded-Host: a.example", "a.example", "443"),
        ("Host: h\r\nX-Url-Scheme: https", "h", "443"),
        ("Host: x\r\nForwarded: for=203.0.113.7;proto=https;host=h", "h", "443"),
        (
            "Host: x\r\nForwarded: for=\"[2001:db8::7]:1\"\r\nForwarded: Proto=\"https\";host=\"h:446\"",
            "h:446",
            "446",
        ),
    ] {
        ask(fields).await.expect(200);
        let head = worker.heads().pop().unwrap();
        assert_eq!(place(&head), ["https", host, port], "{fields}");
        assert!(!head.to_ascii_lowercase().contains("\r\nforwarded:"), "{head}");
    }
    for fields in ["", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Ssl: off\r\n", "Forwarded: proto=http\r\n"]
    {
        ask(&format!("{fields}Host: h")).await.expect(301);
    }
    for value in ["htps", "hxxp"] {
        ask(&format!("Host: h\r\nX-Forwarded-Proto: {value}")).await.expect(301);
    }
    for _ in 0..2 {
        ask("Host: h\r\nX-Forwarded-Proto: https\r\nForwarded: proto=http").await.expect(200);
    }
    proxy.process().logged("disagree").await;
    let log = proxy.process().stderr();
    assert_eq!(log.matches("unknown scheme").count(), 1, "{log}");
    assert_eq!(log.matches("disagree").count(), 1, "{log}");
}

#[tokio::test]
async fn names_that_become_others_in_cgi_do_not_pass() {
    let names = [
        "Proxy",
        "proxy",
        "x.forwarded.for",
        "X-Forwarded.Proto",
        "x!real!ip",
        "transfer.encoding",
        "content|length",
        "remote.user",
        "gx~secret",
        "x_real_ip",
        "host.",
        "cookie_",
    ];
    let fields: String = names.iter().map(|name| format!("{name}: evil\r\n")).collect();
    let worker = Backend::saying("ok").await;
    let proxy = Proxy::to([worker.address()]).secure().start().await;
    let mut wire = proxy.wire().await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}X-Mine: kept\r\n\r\n")).await;
    wire.answer().await.expect("an answer").expect(200);
    let mut wire = proxy.wire().await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}X-Mine: kept\r\n\r\n"
    ))
    .await;
    wire.answer().await.expect("an answer").expect(200);
    let mut client = Frames::to(&proxy.h2()).await;
    let mut request = frames::fields("GET", "/").to_vec();
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    request.extend(lower.iter().map(|name| (name.as_str(), "evil")));
    request.push(("x-mine", "kept"));
    let end = client.ask(1, frames::headers(1, frames::END_STREAM, &request)).await;
    assert_eq!(end.status(), Some(200));
    let heads = worker.heads();
    assert_eq!(heads.len(), 3);
    for head in heads {
        assert!(!head.contains("evil") && head.to_ascii_lowercase().contains("x-mine: kept"), "{head}");
    }
}
