//! Every configuration in `conf/` is served, and does what its first comment says.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::example::{Example, NAME};
use crate::fixtures::{
    AcmeCa, Answer, Authority, Backend, Entry, Gunicorn, H2Client, H2Request, H2Server, Pending, Process,
    Proxy, SOON, Tls, ToolMap, Wire, answers, eventually, h2, handshake, interactive_tool, outcome, run,
    shown, tls_worker, venv, within,
};

async fn get(proxy: &Proxy, host: &str, path: &str) -> Answer {
    proxy.get(path).header("host", host).await
}

/// What the worker was told by the header `name`.
async fn told(proxy: &Proxy, name: &str) -> String {
    let echo = proxy.get("/echo").await.expect(200).json();
    header(&echo, name)
}

fn header(echo: &serde_json::Value, name: &str) -> String {
    let headers = echo["headers"].as_array().unwrap().iter();
    let mut values = headers.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap());
    values.next().unwrap_or_default().to_owned()
}

#[test]
fn every_example_has_a_test_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| name.ends_with(".toml")).collect();
    let tested = include_str!("served.rs").split("Example::of(\"").skip(1);
    let tested: BTreeSet<String> = tested
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    assert_eq!(files, tested);
}

#[tokio::test]
async fn minimal() {
    let example = Example::of("minimal.toml");
    let _workers = (example.gunicorn(0).await, example.gunicorn(1).await);
    // Without `[[listen]]` it would be [::]:8080.
    let example = example.with("[[site]]", "[[listen]]\naddress = \"127.0.0.1:0\"\n[[site]]");
    let proxy = example.start().await;
    proxy.get("/echo").await.expect(200);
    assert_eq!(proxy.get("/static/style/base.css").await.expect(200).text(), "style/base.css");
    assert_downloads(&proxy, &example).await;
}

/// The application's word releases a dataset, and nothing else does.
async fn assert_downloads(proxy: &Proxy, example: &Example) {
    let accel = |place: &str| format!("/accel?path=/_x_accel_redirect{}", example.path(place).display());
    assert_eq!(proxy.get(&accel("/data/set.dat")).await.expect(200).text(), "a dataset");
    let range = proxy.get(&accel("/data/set.dat")).header("range", "bytes=2-8").await.expect(206);
    assert_eq!(range.text(), "dataset");
    proxy.get(&accel("/etc/bowshock/tor-exits.txt")).await.expect(404);
    let direct = format!("/_x_accel_redirect{}", example.path("/data/set.dat").display());
    proxy.get(&direct).await.expect(404);
}

#[tokio::test]
async fn galaxy() {
    let example = Example::of("galaxy.toml");
    let _workers = (example.gunicorn(0).await, example.gunicorn(1).await);
    let proxy = example.start().await;
    proxy.get("/echo").await.expect(200);
    assert_eq!(proxy.get("/static/style/base.css").await.expect(200).text(), "style/base.css");
    assert_eq!(proxy.get("/favicon.ico").await.expect(200).text(), "favicon.ico");
    proxy.get("/api/dataset_collections/1/download").await.expect(200);
    assert_downloads(&proxy, &example).await;
}

#[tokio::test]
async fn login() {
    let example = Example::of("login.toml");
    let _worker = example.gunicorn(0).await;
    let _reports = Gunicorn::app().unix(example.path("/run/galaxy/reports.sock")).start().await;
    let portal = Backend::saying_at(&example.quoted_after("[upstream.portal]", "servers ="), "").await;
    let proxy = example.start().await;
    get(&proxy, NAME, "/echo").await.expect(200);
    get(&proxy, NAME, "/reports/echo").await.expect(401);
    // The password is `secret`.
    let request = proxy.get("/reports/echo").header("host", NAME);
    let echo = request.header("authorization", "Basic YW5uYTpzZWNyZXQ=").await.expect(200).json();
    assert_eq!(header(&echo, "remote-user"), "anna");
    get(&proxy, NAME, "/root/display_as").await.expect(401);
    get(&proxy, NAME, "/dashboard").await.expect(200);
    assert_eq!(portal.paths(), ["/oauth2/auth"]);
}

#[tokio::test]
async fn gateway() {
    let example = Example::of("gateway.toml");
    let _worker = example.gunicorn(0).await;
    let tools = Backend::saying_at(&example.quoted_after("[upstream.tools]", "servers ="), "tools").await;
    let proxy = example.start().await;
    let echo = get(&proxy, "berlin.galaxy.example.org", "/echo").await.expect(200).json();
    assert_eq!(header(&echo, "gx-secret"), "s3cret");
    assert_eq!(get(&proxy, NAME, "/tools/x?a=b").await.expect(200).text(), "tools");
    assert_eq!(tools.paths(), ["/app/x?a=b"]);
    assert_eq!(get(&proxy, NAME, "/old").await.expect(301).header("location"), "/new");
    assert_eq!(get(&proxy, NAME, "/static/welcome.html").await.expect(200).text(), "welcome");
    assert_eq!(get(&proxy, NAME, "/shared/none").await.expect(404).text(), "<h1>Not at our place</h1>");
    let shared =
        proxy.get("/shared/reads.txt").header("host", NAME).header("origin", "https://genome.ucsc.edu");
    assert_eq!(shared.await.expect(200).header("access-control-allow-origin"), "https://genome.ucsc.edu");
    let bot = proxy.get("/api/tools").header("host", NAME).header("user-agent", "a crawler");
    bot.await.expect(403);
    example.scratch.write("srv/galaxy/maintenance", "");
    eventually("maintenance", async || get(&proxy, NAME, "/echo").await.status == 503).await;
}

#[tokio::test]
async fn cache() {
    let example = Example::of("cache.toml");
    let mut workers = vec![example.gunicorn(0).await, example.gunicorn(1).await];
    let proxy = example.start().await;
    let status = |answer: &Answer| answer.header("cache-status");
    // The application says nothing about lifetimes.
    let first = get(&proxy, NAME, "/published/echo").await.expect(200);
    assert_eq!(status(&first), "bowshock; fwd=uri-miss; stored");
    assert!(
        status(&get(&proxy, NAME, "/published/echo").await.expect(200)).starts_with("bowshock; hit; ttl=")
    );
    workers.clear();
    assert_eq!(get(&proxy, NAME, "/published/echo").await.expect(200).text(), first.text());
}

#[tokio::test]
async fn uwsgi() {
    let example = Example::of("uwsgi.toml");
    let mut command = Command::new(venv().join("bin/gunicorn"));
    command.args(["wsgi:app", "--protocol", "uwsgi", "--no-control-socket", "--chdir"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration")).arg("--bind");
    command.arg(format!("unix:{}", example.path("/run/galaxy/uwsgi.sock").display()));
    let _gunicorn = Process::start("gunicorn", &command, example.scratch.root());
    let proxy = example.start().await;
    assert_eq!(get(&proxy, NAME, "/x?a=b").await.expect(200).json()["QUERY_STRING"], "a=b");
    assert_eq!(get(&proxy, NAME, "/static/style/base.css").await.expect(200).text(), "style/base.css");
}

#[tokio::test]
async fn grpc() {
    let mut servers = Vec::new();
    let mut example = Example::of("grpc.toml");
    for address in ["127.0.0.1:50051", "127.0.0.1:50052"] {
        let server = H2Server::serving(|mut request: H2Request| async move {
            let mut stream = request.respond.send_response(h2::head(200), false).unwrap();
            stream.send_data("called".into(), false).unwrap();
            stream.send_trailers(h2::fields(&[("grpc-status", "0")])).unwrap();
        })
        .await;
        example = example.with(address, &server.address());
        servers.push(server);
    }
    let proxy = example.start().await;
    let client = H2Client::to(&proxy.target().under(Tls::asking(NAME, &example.authority).h2())).await;
    for _ in 0..2 {
        let call =
            client.post("/a.Service/Call", &[("content-type", "application/grpc"), ("te", "trailers")]);
        let (_, body, trailers) = call.await.finish(&[]).await;
        assert_eq!((&body[..], trailers), (&b"called"[..], Some(h2::fields(&[("grpc-status", "0")]))));
    }
    assert!(servers.iter().all(|server| server.heads().len() == 1), "both have one");
}

#[tokio::test]
async fn behind_nginx() {
    let example = Example::of("behind-nginx.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    // The first listener is the unix socket, whose every peer is believed.
    let chain = proxy.get("/echo").header("host", NAME).header("x-forwarded-for", "192.0.2.7");
    let echo = chain.header("x-forwarded-proto", "https").await.expect(200).json();
    assert_eq!(header(&echo, "x-forwarded-for"), "192.0.2.7");
    assert_eq!(header(&echo, "x-forwarded-proto"), "https");
    get(&proxy, "elsewhere.example.org", "/echo").await.expect(404);
}

#[tokio::test]
async fn tls() {
    let (example, http, https) = Example::of("tls.toml").listening();
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    let moved = get(&proxy, NAME, "/echo?a=b").await.expect(301);
    assert_eq!(moved.header("location"), format!("https://{NAME}:{https}/echo?a=b"));
    get(&proxy, "elsewhere.example.org", "/").await.expect(404);
    let secure = proxy.listener(&format!("127.0.0.1:{https}"));
    for host in [NAME, "abc.ep.interactivetool.galaxy.example.org"] {
        let target = secure.clone().under(Tls::asking(host, &example.authority));
        let answer = target.get("/echo").await.expect(200);
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
        assert_eq!(header(&answer.json(), "x-forwarded-proto"), "https");
    }
    assert_eq!(proxy.target().address().port(), http);
}

#[tokio::test]
async fn acme() {
    let authority = AcmeCa::new().await.names(&[NAME]);
    let _pebble = authority.start().await;
    let directory = format!("https://{}/dir\"\nca = {:?}\n#", authority.target().address(), authority.ca());
    let listeners = format!(
        "[[listen]]\naddress = \"127.0.0.1:{}\"\n[[listen]]\naddress = \"127.0.0.1:{}\"\ntls = true\n[[site]]",
        authority.http, authority.https
    );
    let example = Example::of("acme.toml")
        .with("https://acme-v02.api.letsencrypt.org/directory", &directory)
        .with("[[site]]", &listeners);
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    eventually("the certificate is the CA's", async || {
        shown(authority.https, NAME).await.issuer.contains("Pebble")
    })
    .await;
    handshake::get(authority.https, NAME, "/echo").await.unwrap().expect(200);
    get(&proxy, NAME, "/echo").await.expect(301);
}

#[tokio::test]
async fn limits() {
    let example = Example::of("limits.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    let ask = |agent: &str, key: &str| -> Pending {
        proxy.get("/pid").header("user-agent", agent).header("x-api-key", key).spawn()
    };
    // Ten at once and one a second: thirty take twenty seconds, or are too many.
    let crawlers: Vec<_> = (0..30).map(|number| ask("SomeBot/1.0", &number.to_string())).collect();
    let mut refused = Vec::new();
    for crawler in crawlers {
        let answer = outcome(crawler).await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
            refused.push(answer);
        }
    }
    assert!(!refused.is_empty());
    answers([ask("Firefox", "another")]).await;
    proxy.get("/metrics").await.expect(403);
    proxy.get("/static/style/base.css").header("user-agent", "SomeBot/1.0").await.expect(200);
    let metrics = proxy.metrics().await;
    let count = metrics.sum("bowshock_limited_requests_total", &["limit=\"crawlers\"", "by=\"rate\""]);
    assert_eq!(count as usize, refused.len());
}

#[tokio::test]
async fn blocked_networks() {
    // The listener believes whoever speaks for others here, as it would behind a balancer.
    let example = Example::of("limits.toml")
        .with("[[listen]]\n", "[[listen]]\ntrust = [\"127.0.0.0/8\"]\n")
        .with("# One client is told", "# (One client is told)");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    for (client, status) in [("198.51.100.9", 403), ("192.0.2.7", 403), ("192.0.2.8", 200)] {
        proxy.get("/pid").header("x-forwarded-for", client).await.expect(status);
    }
    proxy.get("/metrics").header("x-forwarded-for", "10.1.2.3").await.expect(200);
}

#[tokio::test]
async fn downloads() {
    let example = Example::of("downloads.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    assert_downloads(&proxy, &example).await;
    let how = proxy.metrics().await.sum("bowshock_response_bytes_total", &["how=\"proxy\""]);
    assert_eq!(how, 0.0, "the application sends nothing of it");
}

#[tokio::test]
async fn archives() {
    let example = Example::of("archives.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    let path = |place: &str| example.path(place).display().to_string();
    let list = format!(
        "- 9 {} sets/first.dat\n- 8 {} second.dat\n",
        path("/data/set.dat"),
        path("/srv/galaxy/var/secret.dat")
    );
    let query = list.replace(' ', "%20").replace('\n', "%0A");
    let answer = proxy.get(&format!("/archive?list={query}")).await.expect(200);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let archive = example.scratch.write("got.zip", &answer.body);
    let (code, out, _) = run(Command::new("unzip").arg("-p").arg(&archive).arg("sets/first.dat"));
    assert_eq!((code, out.as_str()), (Some(0), "a dataset"));
    let (code, out, err) = run(Command::new("unzip").arg("-t").arg(&archive));
    assert_eq!(code, Some(0), "{out}{err}");
    proxy.get(&path("/data/set.dat")).await.expect(404);
}

#[tokio::test]
async fn static_files() {
    let example = Example::of("static.toml");
    let _worker = example.gunicorn(0).await;
    example.scratch.write("srv/galaxy/server/static/style/base.css.gz", "compressed before");
    example.scratch.write("srv/galaxy/server/static/large.css", "a { color: black }\n".repeat(1000));
    let plugin = "srv/galaxy/server/config/plugins/visualizations/charts/static/charts.js";
    example.scratch.write(plugin, "charts");
    let proxy = example.start().await;
    let style = proxy.get("/static/style/base.css").header("accept-encoding", "gzip").await.expect(200);
    assert_eq!((style.header("content-encoding"), style.text()), ("gzip".into(), "compressed before".into()));
    let plain = proxy.get("/static/style/base.css").await.expect(200);
    assert_eq!(
        (plain.text(), plain.header("cache-control")),
        ("style/base.css".into(), "max-age=86400".into())
    );
    assert_eq!(plain.header("x-content-type-options"), "nosniff");
    let large = proxy.get("/static/large.css").header("accept-encoding", "zstd, br, gzip").await.expect(200);
    assert_eq!(large.header("content-encoding"), "zstd");
    assert_eq!(proxy.get("/favicon.ico").await.expect(200).text(), "favicon.ico");
    example.scratch.write("srv/galaxy/custom/static/style/base.css", "ours");
    eventually("the first of both", async || proxy.get("/static/style/base.css").await.text() == "ours")
        .await;
    let listing = proxy.get("/shared/").header("accept", "application/json").await.expect(200).json();
    assert_eq!(listing[0]["name"], "reads.txt", "{listing}");
    let chart = proxy.get("/plugins/visualizations/charts/static/charts.js").await.expect(200);
    assert_eq!(chart.text(), "charts");
    let missing = proxy.get("/static/none").header("accept", "text/html").await.expect(404);
    assert_eq!(missing.text(), "<h1>Not at our place</h1>");
}

#[tokio::test]
async fn workers() {
    let example = Example::of("workers.toml");
    let mut workers = [example.gunicorn(0).await, example.gunicorn(1).await];
    let backup = example.text.split("{ address = \"127").nth(1).unwrap().split('"').next().unwrap();
    let standby = Backend::saying_at(&format!("127{backup}"), "standby").await;
    let proxy = example.start().await;
    let states = async || {
        let galaxy = proxy.upstream("galaxy").await;
        let servers = galaxy["servers"].as_array().unwrap().iter();
        servers.map(|server| server["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("all are well", async || states().await == ["up", "up", "up"]).await;
    for _ in 0..20 {
        assert_ne!(proxy.get("/pid").await.expect(200).text(), "standby");
    }
    for worker in &mut workers {
        worker.kill().await;
    }
    assert_eq!(proxy.get("/pid").await.expect(200).text(), "standby");
    standby.end().await;
    let waits = proxy.get("/pid").spawn();
    eventually("it waits", async || proxy.upstream("galaxy").await["waiting"] == 1).await;
    workers[0].restart().await;
    answers([waits]).await;
}

#[tokio::test]
async fn streams() {
    let tools = Gunicorn::app().start().await;
    let example = Example::of("streams.toml").with("127.0.0.1:8000", &tools.address());
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    let mut events = proxy.get("/sse?s=60").header("host", NAME).open().await.unwrap();
    assert_eq!(events.piece().await.unwrap().unwrap(), "data: 0\n\n");
    let server = async || proxy.upstream("galaxy").await["servers"][0].clone();
    soon_eq!((server().await["streams"].clone(), server().await["inflight"].clone()), (1.into(), 0.into()));
    let tool = "abc.ep.interactivetool.galaxy.example.org";
    let mut wire = proxy.wire().await;
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    wire.send(format!("GET /chat HTTP/1.1\r\nHost: {tool}\r\n{upgrade}\r\n{key}\r\n\r\n")).await;
    let head = within(SOON, "a handshake", wire.head()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // FIN and text, masked with zeros.
    wire.send([&[0x81, 0x82, 0, 0, 0, 0], &b"hi"[..]].concat()).await;
    assert_eq!(wire.read(4).await, b"\x81\x02hi");
    let released = format!("/accel?path={}", example.path("/data/set.dat").display());
    // The site of the tools has no route with files: the path leads to the tool itself.
    assert_ne!(get(&proxy, tool, &released).await.text(), "a dataset");
}

#[tokio::test]
async fn interactive_tools() {
    let example = Example::of("interactive-tools.toml");
    let (_worker, tool) = (example.gunicorn(0).await, interactive_tool("a tool").await);
    let map = ToolMap::sqlite_in(example.path("/srv/galaxy/var"));
    let entry = Entry::new("24ab", "c0ffee", &tool.address());
    map.save(&entry);
    let proxy = example.start().await;
    let host = "24ab-c0ffee.ep.interactivetool.galaxy.example.org";
    assert_eq!(get(&proxy, host, "/lab").await.expect(200).text(), "a tool");
    assert_eq!(get(&proxy, NAME, &entry.path("/lab")).await.expect(200).text(), "a tool");
    assert_eq!(tool.paths(), ["/lab"; 2]);
    get(&proxy, NAME, "/echo").await.expect(200);
}

#[tokio::test]
async fn proxy_protocol() {
    let example = Example::of("proxy-protocol.toml").with("10.0.0.0/8", "127.0.0.0/8");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    let mut stream = TcpStream::connect(proxy.target().address()).await.unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n").await.unwrap();
    let mut wire = Wire::on(Tls::asking(NAME, &example.authority).shake(stream).await.unwrap());
    wire.send(format!("GET /echo HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
    let echo = wire.answer().await.unwrap().expect(200).json();
    assert_eq!(header(&echo, "x-forwarded-for"), "192.0.2.7");
    assert_eq!(header(&echo, "x-forwarded-proto"), "https");
    let without = Tls::asking(NAME, &example.authority).connect(proxy.target().address()).await;
    assert!(without.is_err(), "every connection begins with a PROXY header");
}

#[tokio::test]
async fn sites() {
    let example = Example::of("sites.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    for host in [NAME, "www.galaxy.example.org"] {
        let answer = get(&proxy, host, "/echo").await.expect(200);
        assert_eq!(answer.header("x-frame-options"), "SAMEORIGIN");
    }
    assert_eq!(get(&proxy, "data.example.org", "/reads.txt").await.expect(200).text(), "shared");
    let moved = get(&proxy, "a.training.example.org", "/b?c=d").await.expect(302);
    assert_eq!(moved.header("location"), "https://galaxy.example.org/b?c=d");
    assert_eq!(get(&proxy, "a.training.example.org", "/hello").await.expect(200).text(), "Welcome.\n");
    assert!(
        get(&proxy, "elsewhere.example.org", "/").await.expect(404).text().contains("No site of that name")
    );
}

#[tokio::test]
async fn monitoring() {
    let example = Example::of("monitoring.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    proxy.get("/pid").header("host", NAME).await.expect(200);
    let metrics = proxy.admin().get("/metrics").header("host", "proxy.example.org").await.expect(200);
    assert!(metrics.text().contains("bowshock_upstream_up{server="), "{}", metrics.text());
    proxy.admin().get("/metrics").header("host", "elsewhere.example.org").await.expect(421);
    proxy.admin().get("/health").await.expect(200);
    let log = example.path("/var/log/bowshock/access.log");
    eventually("a line of JSON", async || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let line: serde_json::Value =
            text.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        line["target"] == "/pid" && line["status"] == 200 && line["upstream"] == "galaxy"
    })
    .await;
}

#[tokio::test]
async fn https_upstream() {
    let example = Example::of("https-upstream.toml");
    let worker = tls_worker(&example.authority.server(&["training.example.org"])).await;
    let example = example.with("training.example.org:443", &worker);
    let proxy = example.start().await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "training.example.org");
    // One that another authority has signed gets nothing.
    let other = tls_worker(&Authority::new("another").server(&["training.example.org"])).await;
    drop(proxy);
    let example =
        example.with(&worker, &other).with("[upstream.training]\n", "[upstream.training]\nhold = \"0s\"\n");
    let proxy = example.start().await;
    let status = proxy.get("/").await.status;
    assert!(status == 502 || status == 503, "{status}");
}

#[tokio::test]
async fn uploads() {
    let example = Example::of("uploads.toml");
    let _worker = example.gunicorn(0).await;
    let proxy = example.start().await;
    // Eleven gigabytes: the head tells.
    let ask = async |path: &str| {
        let mut wire = proxy.wire().await;
        let head = "Host: x\r\nContent-Length: 11811160064\r\nExpect: 100-continue";
        wire.send(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n")).await;
        within(SOON, "a head", wire.head()).await.unwrap()
    };
    assert!(ask("/").await.starts_with("HTTP/1.1 413 "));
    assert!(!ask("/api/upload/resumable_upload").await.starts_with("HTTP/1.1 413 "));
    // The worker is asked when the body is whole.
    let mut wire = proxy.wire().await;
    wire.send("POST /api/tools HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello").await;
    let inflight = async || proxy.upstream("galaxy").await["servers"][0]["inflight"].clone();
    crate::fixtures::pass(crate::fixtures::ms(300)).await;
    assert_eq!(inflight().await, 0);
    wire.send("hello").await;
    let echo = wire.answer().await.unwrap().expect(200).json();
    assert_eq!(header(&echo, "content-length"), "10");
    assert_eq!(told(&proxy, "x-forwarded-for").await, "127.0.0.1");
}

#[test]
fn the_alert_rules_are_good() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/alerts.yml");
    let (code, out, err) = run(Command::new("promtool").args(["check", "rules"]).arg(rules));
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn the_systemd_unit_is_understood() {
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bowshock.service")).unwrap();
    for line in ["Type=notify", "ExecReload=/usr/local/bin/bowshock reload", "NoNewPrivileges=yes"] {
        assert!(unit.contains(line), "{line}");
    }
}

#[tokio::test]
async fn galaxy_site() {
    let example = Example::of("galaxy-site.toml").galaxy_yml("galaxy-site.toml");
    example.scratch.write("srv/galaxy/custom/favicon.ico", "ours");
    let _workers = (example.gunicorn(0).await, example.gunicorn(1).await);
    let proxy = example.start().await;
    get(&proxy, NAME, "/echo").await.expect(200);
    assert_eq!(get(&proxy, NAME, "/static/style/base.css").await.expect(200).text(), "style/base.css");
    assert_eq!(get(&proxy, NAME, "/favicon.ico").await.expect(200).text(), "ours");
    assert_eq!(get(&proxy, NAME, "/robots.txt").await.expect(200).text(), "robots.txt");
    get(&proxy, NAME, "/api/dataset_collections/1/download").await.expect(200);
    let accel = |place: &str| format!("/accel?path=/_x_accel_redirect{}", example.path(place).display());
    assert_eq!(get(&proxy, NAME, &accel("/data/set.dat")).await.expect(200).text(), "a dataset");
    get(&proxy, NAME, &accel("/etc/bowshock/tor-exits.txt")).await.expect(404);
}

#[tokio::test]
async fn galaxy_by_hand() {
    let (tusd, tools) = (Backend::saying("tusd").await, Backend::saying("tools").await);
    let example = Example::of("galaxy-by-hand.toml")
        .galaxy_yml("galaxy-by-hand.toml")
        .with("127.0.0.1:1080", &tusd.address())
        .with("127.0.0.1:8000", &tools.address());
    example.scratch.write("srv/galaxy/custom/welcome.html", "ours");
    let _workers = (example.gunicorn(0).await, example.gunicorn(1).await);
    let _reports = Gunicorn::app().unix(example.path("/run/galaxy/reports.sock")).start().await;
    let proxy = example.start().await;
    assert_eq!(get(&proxy, NAME, "/galaxy").await.expect(302).header("location"), "/galaxy/");
    assert_eq!(get(&proxy, NAME, "/galaxy/static/style/base.css").await.expect(200).text(), "style/base.css");
    assert_eq!(get(&proxy, NAME, "/galaxy/static/welcome.html").await.expect(200).text(), "ours");
    assert_eq!(get(&proxy, NAME, "/galaxy/api/upload/resumable_upload/1").await.expect(200).text(), "tusd");
    assert_eq!(tusd.paths(), ["/files/1"]);
    get(&proxy, NAME, "/galaxy/reports/echo").await.expect(200);
    let tool = "abc.ep.interactivetool.galaxy.example.org";
    assert_eq!(get(&proxy, tool, "/static/style/base.css").await.expect(200).text(), "tools");
    let test = "test.example.org";
    get(&proxy, test, "/echo").await.expect(200);
    let accel = format!("/accel?path=/_x_accel_redirect{}", example.path("/data/set.dat").display());
    assert_eq!(get(&proxy, test, &accel).await.expect(200).text(), "a dataset");
}
