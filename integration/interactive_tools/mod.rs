//! Interactive tools of Galaxy: reached by host name and by path, by what the map says and by nothing else.

#[cfg(feature = "postgres")]
mod postgres;
mod real;

use std::{fmt::Display, fs};

use crate::fixtures::{
    Answer, Backend, Builder, Entry, Frames, Proxy, Scratch, ToolMap, Wire, eventually, frames,
    interactive_tool, ms, pass, vacant,
};

/// Galaxy's own site, and that of tools.
fn site(map: &ToolMap, app: &Backend, modifiers: &str) -> Builder {
    site_of(map.path().display(), app, modifiers)
}

/// The same with a map anywhere.
fn site_of(map: impl Display, app: &Backend, modifiers: &str) -> Builder {
    Proxy::toml(
        r#"
[[site]]
host = "galaxy.test"
request_headers = { GX_SECRET = "secret" }
[site.routes]
"/"                   = { proxy = "app" }
"/_x"                 = { files = "/", internal = true, within = ["/tmp"] }
"/interactivetool/ep" = { interactive_tools = "@MAP@"@MORE@ }
[[site]]
host = "*.ep.interactivetool.galaxy.test"
[site.routes]
"/" = { interactive_tools = "@MAP@"@MORE@ }
[upstream.app]
servers = ["@APP@"]
"#,
    )
    .fill("MAP", map)
    .fill("APP", app.address())
    .fill("MORE", modifiers)
}

async fn get(proxy: &Proxy, host: &str, path: &str) -> Answer {
    proxy.get(path).header("host", host).await
}

/// Waits until requests for a tool have this status.
async fn becomes(proxy: &Proxy, entry: &Entry, status: u16) {
    let host = entry.host_name();
    eventually(&format!("{status} of {host}"), async || get(proxy, &host, "/").await.status == status).await;
}

/// The value of a header in a head.
fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
}

fn handshake(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn a_tool_is_reached_by_host_name_and_by_path() {
    for of in [ToolMap::sqlite, ToolMap::json] {
        let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
        let (one, two) = (interactive_tool("one").await, interactive_tool("two").await);
        let map = of(&scratch);
        let (first, second) =
            (Entry::new("a1", "t0ken", &one.address()), Entry::new("b2", "0ther", &two.address()));
        map.save(&first);
        // A host may be a name.
        map.save(&Entry { host: "localhost".into(), ..second.clone() });
        let proxy = site(&map, &app, "").start().await;
        let by_host = get(&proxy, &first.host_name(), "/lab/tree?a=b%2Fc").await.expect(200);
        let by_path = get(&proxy, "galaxy.test", &second.path("/lab//x%20y?a=b")).await.expect(200);
        assert_eq!((by_host.text(), by_path.text()), ("one".into(), "two".into()));
        assert_eq!(
            (one.paths(), two.paths()),
            (vec!["/lab/tree?a=b%2Fc".into()], vec!["/lab//x%20y?a=b".into()])
        );
        get(&proxy, &first.host_name().to_uppercase(), "/").await.expect(200);
        get(&proxy, "galaxy.test", &second.path("")).await.expect(200);
        assert_eq!(two.paths()[1], "/");
        assert_eq!(get(&proxy, "galaxy.test", "/api").await.expect(200).text(), "app");
    }
}

#[tokio::test]
async fn only_key_and_token_together_lead_to_a_tool() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let right = Entry::new("a1", "t0ken", &tool.address());
    map.save(&right);
    map.save(&Entry::new("b2", "0ther", &tool.address()));
    let proxy = site(&map, &app, "").start().await;
    for (key, token) in
        [("a1", "t0keN"), ("a1", "0ther"), ("a1", "t0ke"), ("a1", "t0kenn"), ("a", "t0ken"), ("c3", "t0ken")]
    {
        let wrong = Entry { key: key.into(), token: token.into(), ..right.clone() };
        let answer = get(&proxy, "galaxy.test", &wrong.path("/")).await.expect(404);
        assert!(answer.text().contains("no interactive tool"), "{}", answer.text());
    }
    for path in
        ["/interactivetool/ep", "/interactivetool/ep/", "/interactivetool/ep/a1", "/interactivetool/ep/a1/"]
    {
        get(&proxy, "galaxy.test", path).await.expect(404);
    }
    get(&proxy, "a1.ep.interactivetool.galaxy.test", "/").await.expect(404);
    get(&proxy, "a1-t0ke.ep.interactivetool.galaxy.test", "/").await.expect(404);
    let json = proxy
        .get("/")
        .header("host", "a1-x.ep.interactivetool.galaxy.test")
        .header("accept", "application/json");
    assert!(json.await.expect(404).json()["err_msg"].as_str().unwrap().contains("no interactive tool"));
    assert!(tool.heads().is_empty());
}

#[tokio::test]
async fn a_path_that_two_programs_may_read_in_two_ways_leads_to_no_tool() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    map.save(&Entry::new("a1", "t0ken", &tool.address()));
    let proxy = site(&map, &app, "").start().await;
    for path in [
        "/interactivetool/ep/%61%31/t0ken/",
        "/interactivetool/ep//a1/t0ken/",
        "/interactivetool/%65p/a1/t0ken/",
        "/interactivetool/ep/b2/x/../../a1/t0ken/",
        "/interactivetool/ep/a1/t0ken/../../../../api",
    ] {
        get(&proxy, "galaxy.test", path).await.expect(400);
    }
    assert!(tool.heads().is_empty() && app.heads().is_empty());
}

#[tokio::test]
async fn a_websocket_goes_through_by_both_addresses() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let proxy = site(&map, &app, "").start().await;
    let by_path = entry.path("/api/kernels/1/channels?session=2");
    for (host, path) in
        [(entry.host_name().as_str(), "/api/kernels/1/channels?session=2"), ("galaxy.test", &by_path)]
    {
        let mut wire = proxy.wire().await;
        wire.send(handshake(host, path)).await;
        assert!(wire.head().await.unwrap().contains(" 101 "));
        wire.send("hello").await;
        assert_eq!(wire.read(5).await, b"hello");
    }
    assert_eq!(tool.paths(), ["/api/kernels/1/channels?session=2"; 2]);
    let mut wire = proxy.wire().await;
    wire.send(handshake("a1-x.ep.interactivetool.galaxy.test", "/")).await;
    assert!(wire.head().await.unwrap().contains(" 404 "));
}

#[tokio::test]
async fn a_websocket_goes_through_over_http2() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let proxy = site(&map, &app, "").replace("\"galaxy.test\"", "\"localhost\"").secure().start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", &entry.path("/channels?session=2")),
        ("sec-websocket-version", "13"),
    ];
    client.send(frames::headers(1, 0, &connect)).await;
    let head = client.until(|frame| frame.kind == frames::HEADERS).await;
    assert_eq!(frames::decode_status(&head.payload), 200);
    client.send(frames::frame(frames::DATA, 0, 1, "hello")).await;
    let mut came = Vec::new();
    while came.len() < 5 {
        came.extend(client.until(|frame| frame.kind == frames::DATA).await.payload);
    }
    assert_eq!((came, tool.paths()), (b"hello".to_vec(), vec!["/channels?session=2".into()]));
}

#[tokio::test]
async fn a_tool_is_not_told_the_password_of_a_login() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    // The password is `secret`.
    let users = scratch.write("htpasswd", "anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    let auth = format!(", auth = {{ htpasswd = {users:?}, remote_user = true }}");
    let proxy = site(&map, &app, &auth).start().await;
    get(&proxy, &entry.host_name(), "/").await.expect(401);
    let request = proxy.get("/").header("host", &entry.host_name());
    request.header("authorization", "Basic YW5uYTpzZWNyZXQ=").await.expect(200);
    let head = tool.heads().pop().unwrap();
    assert_eq!((field(&head, "authorization"), field(&head, "remote-user")), (None, None), "{head}");
}

#[tokio::test]
async fn a_tool_may_want_its_path_in_the_url_or_in_a_header() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let whole = Entry::new("a1", "t0ken", &tool.address()).with_path_in_url();
    let named = Entry::new("b2", "0ther", &tool.address()).with_path_in_header("X-RStudio-Root-Path");
    map.save(&whole);
    map.save(&named);
    let proxy = site(&map, &app, "").start().await;
    get(&proxy, "galaxy.test", &whole.path("/lab?x")).await.expect(200);
    get(&proxy, "galaxy.test", &named.path("/lab?x")).await.expect(200);
    assert_eq!(tool.paths(), [whole.path("/lab?x"), "/lab?x".into()]);
    let heads = tool.heads();
    assert_eq!(field(&heads[0], "x-rstudio-root-path"), None);
    assert_eq!(field(&heads[1], "x-rstudio-root-path").as_deref(), Some("/interactivetool/ep/b2/0ther"));
    // By host name there is no path, whatever the client says.
    let lie = proxy.get("/").header("host", &named.host_name()).header("x-rstudio-root-path", "/evil");
    lie.await.expect(200);
    assert_eq!(field(&tool.heads()[2], "x-rstudio-root-path"), None);
}

#[tokio::test]
async fn changes_of_the_map_are_seen() {
    for of in [ToolMap::sqlite, ToolMap::json, |scratch: &Scratch| ToolMap::sqlite(scratch).with_wal()] {
        let (scratch, app, tool) =
            (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
        let map = of(&scratch);
        let (first, second) =
            (Entry::new("a1", "t0ken", &tool.address()), Entry::new("b2", "0ther", &tool.address()));
        map.save(&first);
        let proxy = site(&map, &app, "").start().await;
        get(&proxy, &first.host_name(), "/").await.expect(200);
        for _ in 0..3 {
            map.save(&second);
            becomes(&proxy, &second, 200).await;
            map.remove("b2");
            becomes(&proxy, &second, 404).await;
        }
        get(&proxy, &first.host_name(), "/").await.expect(200);
    }
}

#[tokio::test]
async fn a_map_that_is_not_there_is_waited_for() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let proxy = site(&map, &app, "").start().await;
    let entry = Entry::new("a1", "t0ken", &tool.address());
    let answer = get(&proxy, &entry.host_name(), "/").await.expect(503);
    assert!(answer.text().contains("not known") && !answer.header("retry-after").is_empty());
    assert_eq!(proxy.metrics().await.sum("bowshock_interactive_tool_map_failures", &[]).round() as u32, 1);
    map.save(&entry);
    becomes(&proxy, &entry, 200).await;
    assert_eq!(proxy.metrics().await.sum("bowshock_interactive_tool_map_failures", &[]).round() as u32, 0);
    assert_eq!(proxy.metrics().await.sum("bowshock_interactive_tools", &[]).round() as u32, 1);
}

#[tokio::test]
async fn a_broken_map_leaves_the_tools_that_are_known_and_is_logged_once() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::json(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let mut proxy = site(&map, &app, "").start().await;
    let failures =
        async |proxy: &Proxy| proxy.metrics().await.sum("bowshock_interactive_tool_map_failures", &[]);
    fs::write(map.path(), "{ half of it").unwrap();
    eventually("it is noticed", async || failures(&proxy).await > 0.5).await;
    get(&proxy, &entry.host_name(), "/").await.expect(200);
    // It is tried again and again.
    pass(ms(1500)).await;
    fs::remove_file(map.path()).unwrap();
    let log = "cannot be read";
    eventually("another reason is logged too", async || proxy.process().stderr().matches(log).count() == 2)
        .await;
    get(&proxy, &entry.host_name(), "/").await.expect(200);
    map.save(&entry);
    eventually("it is read again", async || failures(&proxy).await < 0.5).await;
    assert!(!proxy.process().stderr().contains("t0ken"), "the log tells no token");
}

#[tokio::test]
async fn an_entry_that_leads_nowhere_is_left_out_and_said_so() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::json(&scratch);
    let good = Entry::new("a1", "t0ken", &tool.address());
    map.save(&good);
    map.save(&Entry { host: "unix:/run/docker.sock".into(), ..Entry::new("b2", "0ther", &tool.address()) });
    let mut proxy = site(&map, &app, "").start().await;
    get(&proxy, &good.host_name(), "/").await.expect(200);
    get(&proxy, "b2-0ther.ep.interactivetool.galaxy.test", "/").await.expect(404);
    assert!(proxy.process().stderr().contains("left out"), "{}", proxy.process().stderr());
}

#[tokio::test]
async fn a_tool_that_is_starting_is_waited_for_and_one_that_is_gone_is_said_to_be() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let (map, address) = (ToolMap::sqlite(&scratch), vacant());
    let entry = Entry::new("a1", "t0ken", &address);
    map.save(&entry);
    let proxy = site(&map, &app, ", hold = \"1s\"").start().await;
    let answer = get(&proxy, &entry.host_name(), "/").await.expect(502);
    assert!(answer.text().contains("cannot be reached"), "{}", answer.text());
    let waiting = proxy.get("/").header("host", &entry.host_name()).spawn();
    let _tool = Backend::saying_at(&address, "started").await;
    assert_eq!(waiting.await.unwrap().unwrap().expect(200).text(), "started");
}

#[tokio::test]
async fn a_request_that_waits_for_a_tool_that_is_removed_is_told_so() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &vacant());
    map.save(&entry);
    let proxy = site(&map, &app, ", hold = \"1m\"").start().await;
    let waiting = proxy.get("/").header("host", &entry.host_name()).spawn();
    pass(ms(300)).await;
    assert!(!waiting.is_finished());
    map.remove("a1");
    assert!(waiting.await.unwrap().unwrap().expect(404).text().contains("may have ended"));
}

#[tokio::test]
async fn one_tool_has_so_many_connections_at_most() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let (entry, other) =
        (Entry::new("a1", "t0ken", &tool.address()), Entry::new("b2", "0ther", &tool.address()));
    map.save(&entry);
    map.save(&other);
    let proxy = site(&map, &app, ", max_connections = 2").start().await;
    let open = async || {
        let mut wire = proxy.wire().await;
        wire.send(handshake(&entry.host_name(), "/")).await;
        assert!(wire.head().await.unwrap().contains(" 101 "));
        wire
    };
    let (one, two): (Wire, Wire) = (open().await, open().await);
    let refused = get(&proxy, &entry.host_name(), "/").await.expect(503);
    assert!(refused.text().contains("max_connections"), "{}", refused.text());
    get(&proxy, &other.host_name(), "/").await.expect(200);
    drop(one);
    becomes(&proxy, &entry, 200).await;
    drop(two);
}

#[tokio::test]
async fn a_tool_is_not_told_what_is_galaxys() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let proxy = site(&map, &app, "").start().await;
    for (host, path) in [(entry.host_name().as_str(), "/"), ("galaxy.test", &entry.path("/"))] {
        let request =
            proxy.get(path).header("host", host).header("cookie", "_xsrf=1; galaxysession=2; lab=3");
        let request =
            request.header("x-interactive-tool-host", "127.0.0.1").header("x_interactive_tool_port", "1");
        request.header("authorization", "token 4").await.expect(200);
        let head = tool.heads().pop().unwrap();
        assert_eq!(field(&head, "cookie").as_deref(), Some("_xsrf=1; lab=3"));
        assert_eq!(field(&head, "authorization").as_deref(), Some("token 4"), "that is the tool's own");
        assert_eq!(field(&head, "host").as_deref(), Some(host));
        assert!(!head.to_ascii_lowercase().contains("interactive-tool-"), "{head}");
        assert!(!head.contains("secret"), "{head}");
    }
}

#[tokio::test]
async fn a_tool_releases_no_file_and_sets_no_session_of_galaxy() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let file = scratch.write("dataset", "secret");
    let said = file.display().to_string();
    let tool = Backend::answering(move |head| {
        let list = "- 6 /_x/etc/hostname a\r\n";
        let more = match head {
            head if head.contains("/accel") => format!("X-Accel-Redirect: /_x{said}\r\n"),
            head if head.contains("/sendfile") => format!("X-Sendfile: {said}\r\n"),
            _ => "X-Archive-Files: zip\r\n".into(),
        };
        format!(
            "HTTP/1.1 200 OK\r\n{more}Set-Cookie: galaxysession=1; Path=/\r\nSet-Cookie: lab=1; Path=/\r\n\
             Content-Length: {}\r\n\r\n{list}",
            list.len()
        )
        .into_bytes()
    })
    .await;
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let proxy = site(&map, &app, "").start().await;
    for what in ["/accel", "/sendfile", "/archive"] {
        for (host, path) in [(entry.host_name().as_str(), what), ("galaxy.test", &entry.path(what))] {
            let answer = get(&proxy, host, path).await.expect(200);
            assert_eq!(answer.text(), "- 6 /_x/etc/hostname a\r\n", "{what}");
            assert!(
                !format!("{answer:?}").contains("x-a") && !format!("{answer:?}").contains("x-sendfile"),
                "{answer:?}"
            );
            let cookie = if host == "galaxy.test" {
                "lab=1; Path=/interactivetool/ep/a1/t0ken"
            } else {
                "lab=1; Path=/"
            };
            assert_eq!(answer.all("set-cookie"), [cookie]);
        }
    }
}

#[tokio::test]
async fn redirects_of_a_tool_stay_below_its_path() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let tool = Backend::answering(|head| {
        let to = head.split(' ').nth(1).and_then(|path| path.split_once("to=")).map_or("", |(_, to)| to);
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let proxy = site(&map, &app, "").start().await;
    let base = entry.path("");
    for (told, expected) in [
        ("/lab?x", format!("{base}/lab?x")),
        ("lab", "lab".into()),
        (&entry.path("/lab"), format!("{base}/lab")),
        ("http://galaxy.test/lab", format!("http://galaxy.test{base}/lab")),
        ("https://elsewhere.test/lab", "https://elsewhere.test/lab".into()),
    ] {
        let answer = get(&proxy, "galaxy.test", &entry.path(&format!("/?to={told}"))).await.expect(302);
        assert_eq!(answer.header("location"), expected);
        let answer = get(&proxy, &entry.host_name(), &format!("/?to={told}")).await.expect(302);
        assert_eq!(answer.header("location"), told);
    }
}

#[tokio::test]
async fn what_a_tool_says_to_other_origins_is_passed_on_and_nothing_is_added() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let proxy = site(&map, &app, "").start().await;
    let request =
        proxy.get("/").header("host", &entry.host_name()).header("origin", "https://evil.example.com");
    let answer = request.await.expect(200);
    assert!(
        answer.all("access-control-allow-origin").is_empty()
            && answer.all("access-control-allow-credentials").is_empty()
    );
    assert_eq!(
        field(&tool.heads()[0], "origin").as_deref(),
        Some("https://evil.example.com"),
        "for the tool to judge"
    );
}

#[tokio::test]
async fn a_reload_keeps_what_is_open_and_takes_another_map() {
    let (scratch, app, tool) = (Scratch::new(), Backend::saying("app").await, interactive_tool("tool").await);
    let (old, new) = (ToolMap::sqlite(&scratch), ToolMap::json(&scratch));
    let (entry, other) =
        (Entry::new("a1", "t0ken", &tool.address()), Entry::new("b2", "0ther", &tool.address()));
    old.save(&entry);
    new.save(&other);
    let mut proxy = site(&old, &app, "").start().await;
    let mut wire = proxy.wire().await;
    wire.send(handshake(&entry.host_name(), "/")).await;
    assert!(wire.head().await.unwrap().contains(" 101 "));
    proxy.reload(site(&new, &app, "")).await;
    wire.send("still here").await;
    assert_eq!(wire.read(10).await, b"still here");
    get(&proxy, &entry.host_name(), "/").await.expect(404);
    get(&proxy, &other.host_name(), "/").await.expect(200);
}
