//! A real Jupyter, by both addresses, and the gx-it-proxy of Galaxy beside us (`make interactive-tools`).

use std::{process::Command, time::Duration};

use serde_json::json;

use super::{field, get, handshake, site};
use crate::fixtures::{
    Answer, Backend, Channels, Entry, GxItProxy, Jupyter, Process, Proxy, Scratch, Target, ToolMap, Wire,
    eventually, ms, pass,
};

/// Runs some code in a new kernel of the Jupyter at `base` of `host`, and gives what it prints.
async fn print(target: &Target, host: &str, base: &str, code: &str) -> String {
    let kernels = format!("{base}/api/kernels");
    let body = json!({ "name": "python3" }).to_string();
    let started = target.request("POST", &kernels).header("host", host).body(body).await.expect(201).json();
    let kernel = format!("{kernels}/{}", started["id"].as_str().unwrap());
    let mut wire = Wire::to(target).await;
    let request = handshake(host, &format!("{kernel}/channels"));
    wire.send(request.replace("\r\n\r\n", &format!("\r\nOrigin: http://{host}\r\n\r\n"))).await;
    let head = wire.head().await.unwrap();
    assert!(head.contains(" 101 "), "{head}");
    let printed = Channels(wire).run(code).await;
    target.request("DELETE", &kernel).header("host", host).await.expect(204);
    printed
}

#[tokio::test]
#[ignore = "needs Jupyter: make interactive-tools"]
async fn a_kernel_of_jupyter_is_reached_by_both_addresses() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let map = ToolMap::sqlite(&scratch);
    let mut by_path = Entry::new("b2b2", "c0ffee", "127.0.0.1:1").with_path_in_url();
    let base = by_path.path("/");
    let (one, two) = tokio::join!(Jupyter::start("/", ""), Jupyter::start(&base, ""));
    let by_host = Entry::new("a1a1", "decade", &one.address());
    by_path.port = two.address().rsplit_once(':').unwrap().1.parse().unwrap();
    map.save(&by_host);
    map.save(&by_path);
    let proxy = site(&map, &app, "").start().await;
    assert_eq!(print(&proxy.target(), &by_host.host_name(), "", "print(6 * 7)").await, "42\n");
    assert_eq!(print(&proxy.target(), "galaxy.test", &by_path.path(""), "print(6 * 7)").await, "42\n");
    let root = get(&proxy, "galaxy.test", &by_path.path("/api")).await.expect(200);
    assert!(root.json()["version"].is_string(), "{root:?}");
}

/// Starts a kernel, has it compute, and says what it has printed.
const PAGE: &str = r#"<!doctype html><title>kernel</title><script>
(async () => {
  const base = location.pathname.split("/static/")[0];
  const kernel = await (await fetch(base + "/api/kernels", { method: "POST", body: '{"name": "python3"}' })).json();
  const socket = new WebSocket(`ws://${location.host}${base}/api/kernels/${kernel.id}/channels`);
  const header = { msg_id: "1", session: "1", username: "", date: "", version: "5.3", msg_type: "execute_request" };
  const content = { code: "print(6 * 7)", silent: false, store_history: false, user_expressions: {}, allow_stdin: false };
  const message = { header, parent_header: {}, metadata: {}, content, channel: "shell", buffers: [] };
  socket.onopen = () => socket.send(JSON.stringify(message));
  socket.onmessage = async event => {
    const message = JSON.parse(event.data);
    if (message.header.msg_type !== "stream") return;
    await fetch(base + "/api/kernels/" + kernel.id, { method: "DELETE" });
    fetch("/said?" + message.content.text.trim());
  };
})();
</script>"#;

#[tokio::test]
#[ignore = "needs Jupyter and Chromium: make interactive-tools"]
async fn chromium_computes_in_a_kernel_by_both_addresses() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let map = ToolMap::sqlite(&scratch);
    let mut by_path = Entry::new("b2b2", "c0ffee", "127.0.0.1:1").with_path_in_url();
    let base = by_path.path("/");
    let (one, two) = tokio::join!(Jupyter::start("/", PAGE), Jupyter::start(&base, PAGE));
    let by_host = Entry::new("a1a1", "decade", &one.address());
    by_path.port = two.address().rsplit_once(':').unwrap().1.parse().unwrap();
    map.save(&by_host);
    map.save(&by_path);
    let said = "[site.routes]\n\"/said\" = { proxy = \"app\" }\n";
    let proxy = site(&map, &app, "").replace("[site.routes]\n", said).start().await;
    for (number, url) in [
        format!("http://{}/static/page.html", by_host.host_name()),
        format!("http://galaxy.test{}", by_path.path("/static/page.html")),
    ]
    .iter()
    .enumerate()
    {
        let mut command = Command::new("chromium");
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-proxy-server", "--disable-sync", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--no-first-run"]);
        command.arg(format!("--host-resolver-rules=MAP *.test:80 {}", proxy.address()));
        command
            .arg(format!("--user-data-dir={}", scratch.path(&format!("profile{number}")).display()))
            .arg(url);
        let chromium = Process::start(&format!("chromium{number}"), &command, scratch.root());
        let heard = || app.paths().into_iter().filter(|path| path.starts_with("/said?")).nth(number);
        let said = async {
            loop {
                match heard() {
                    Some(said) => return said,
                    None => pass(ms(100)).await,
                }
            }
        };
        // A browser takes its time to start on a busy machine.
        let said = tokio::time::timeout(Duration::from_secs(60), said).await;
        assert_eq!(said.as_deref(), Ok("/said?42"), "{url}: {}", chromium.stderr());
    }
}

/// What a request has led to: the status, and what the tool was asked for and told.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    asked: Option<String>,
    host: Option<String>,
    root_path: Option<String>,
}

/// A request to both.
struct Case {
    host: String,
    path: String,
    /// Why the two differ, if they may.
    differs: Option<&'static str>,
}

impl Case {
    fn same(host: &str, path: impl Into<String>) -> Self {
        Self { host: host.into(), path: path.into(), differs: None }
    }

    fn differs(host: &str, path: impl Into<String>, why: &'static str) -> Self {
        Self { differs: Some(why), ..Self::same(host, path) }
    }
}

/// Sends the request. One that gets no response within two seconds has the status 0.
async fn outcome(target: &Target, tool: &Backend, case: &Case) -> Outcome {
    let before = tool.heads().len();
    let request = target.get(&case.path).header("host", &case.host).header("cookie", "lab=1");
    let answer = tokio::time::timeout(Duration::from_secs(2), request.send()).await;
    let status = answer.ok().and_then(Result::ok).map_or(0, |answer: Answer| answer.status);
    let head = tool.heads().get(before).cloned();
    let field = |name: &str| head.as_ref().and_then(|head| field(head, name));
    let asked = head.as_ref().and_then(|head| head.split(' ').nth(1)).map(str::to_owned);
    assert_eq!(field("cookie").as_deref(), head.as_ref().map(|_| "lab=1"), "{}", case.path);
    Outcome { status, asked, host: field("host"), root_path: field("x-rstudio-root-path") }
}

#[tokio::test]
#[ignore = "needs gx-it-proxy: make interactive-tools"]
async fn requests_lead_to_the_same_as_with_gx_it_proxy() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let tool = Backend::saying("tool").await;
    let map = ToolMap::sqlite(&scratch);
    let plain = Entry::new("a1", "t0ken", &tool.address());
    let whole = Entry::new("b2", "0ther", &tool.address()).with_path_in_url();
    let named = Entry::new("c3", "th1rd", &tool.address()).with_path_in_header("X-RStudio-Root-Path");
    [&plain, &whole, &named].into_iter().for_each(|entry| map.save(entry));
    let proxy: Proxy = site(&map, &app, ", hold = \"0s\"").start().await;
    let theirs = GxItProxy::start(&map).await;
    let host = plain.host_name();
    let site = "galaxy.test";
    let mut cases = vec![
        Case::same(site, plain.path("")),
        Case::differs(&host, named.path("/"), "on the host of a tool the path says nothing here"),
    ];
    for rest in ["/", "/lab", "/lab?a=b", "/lab/tree/x%20y%2Fz?a=%2F", "/?", "/lab;x=1", "/%7Euser", "/a/b/"]
    {
        cases.push(Case::same(&host, rest));
        for entry in [&plain, &whole, &named] {
            cases.push(Case::same(site, entry.path(rest)));
        }
        cases.push(Case::same(&whole.host_name(), rest));
        cases.push(Case::same(&named.host_name(), rest));
    }
    for (host, path) in [(host.as_str(), "/a//b"), (site, "/interactivetool/ep/a1/t0ken/a//b")] {
        cases.push(Case::differs(host, path, "a path goes on byte for byte; they merge slashes"));
    }
    cases.push(Case::differs("a1-T0KEN.ep.interactivetool.galaxy.test", "/", "a host name has no case"));
    let nothing = "for no tool there is a page that says so; they try port 80 of their own machine";
    for (host, path) in [
        ("a1-t0kex.ep.interactivetool.galaxy.test", "/".to_owned()),
        ("a1.ep.interactivetool.galaxy.test", "/".into()),
        ("zz-t0ken.ep.interactivetool.galaxy.test", "/".into()),
        (site, "/interactivetool/ep/a1/0ther/".into()),
        (site, "/interactivetool/ep/zz/t0ken/".into()),
    ] {
        cases.push(Case::differs(host, path, nothing));
    }
    let readings = "a path with two readings leads to no tool here";
    cases.push(Case::differs(site, "/interactivetool/ep/a1/t0ken/../../b2/0ther/", readings));
    let mut differences = Vec::new();
    for case in &cases {
        let ours = outcome(&proxy.target(), &tool, case).await;
        let other = outcome(&theirs.target(), &tool, case).await;
        if (ours == other) != case.differs.is_none() {
            differences
                .push(format!("{} {} ({:?})\n  {ours:?}\n  {other:?}", case.host, case.path, case.differs));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test]
#[ignore = "needs gx-it-proxy: make interactive-tools"]
async fn other_origins_are_let_in_by_gx_it_proxy_alone() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let tool = Backend::saying("tool").await;
    let map = ToolMap::sqlite(&scratch);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    map.save(&entry);
    let (proxy, theirs) = (site(&map, &app, "").start().await, GxItProxy::start(&map).await);
    let ask = async |target: Target| {
        let request = target.get("/").header("host", &entry.host_name()).header("cookie", "galaxysession=1");
        request.header("origin", "https://evil.example.com").await.expect(200)
    };
    let (ours, other) = (ask(proxy.target()).await, ask(theirs.target()).await);
    assert_eq!(ours.header("access-control-allow-origin"), "");
    assert_eq!(other.header("access-control-allow-origin"), "https://evil.example.com");
    assert_eq!(other.header("access-control-allow-credentials"), "true");
    let cookies: Vec<_> = tool.heads().iter().map(|head| field(head, "cookie")).collect();
    assert_eq!(cookies, [None, Some("galaxysession=1".into())]);
}

#[tokio::test]
#[ignore = "needs gx-it-proxy: make interactive-tools"]
async fn a_client_says_to_gx_it_proxy_where_to_connect_and_not_to_us() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let secret = Backend::saying("of the machine").await;
    let map = ToolMap::json(&scratch);
    map.save(&Entry::new("a1", "t0ken", "127.0.0.1:1"));
    let (proxy, theirs) = (site(&map, &app, "").start().await, GxItProxy::without_map().await);
    let ask = async |target: Target| {
        let request = target.get("/").header("host", "a1-x.ep.interactivetool.galaxy.test");
        request.header("x-interactive-tool-host", &secret.address()).await
    };
    ask(proxy.target()).await.expect(404);
    assert!(secret.heads().is_empty());
    assert_eq!(ask(theirs.target()).await.expect(200).text(), "of the machine");
}

#[tokio::test]
#[ignore = "needs gx-it-proxy: make interactive-tools"]
async fn a_map_in_json_has_tokens_and_may_be_broken_for_a_while() {
    let (scratch, app) = (Scratch::new(), Backend::saying("app").await);
    let tool = Backend::saying("tool").await;
    let map = ToolMap::json(&scratch);
    let entry = Entry { info: serde_json::Value::Null, ..Entry::new("a1", "t0ken", &tool.address()) };
    map.save(&entry);
    let (proxy, mut theirs) = (site(&map, &app, "").start().await, GxItProxy::start(&map).await);
    let key_alone = "/interactivetool/ep/a1";
    get(&proxy, "galaxy.test", key_alone).await.expect(404);
    get(&proxy, "galaxy.test", &entry.path("/")).await.expect(200);
    theirs.target().get(key_alone).await.expect(200);
    theirs.target().get(&entry.path("/")).await.expect(502);
    std::fs::write(map.path(), "{ half of it").unwrap();
    eventually("it has ended", async || !theirs.process().running()).await;
    get(&proxy, "galaxy.test", &entry.path("/")).await.expect(200);
}
