//! Names, redirects, and what a site asks of its clients.

use super::{ADDRESS, listening, shown, simple, site};
use crate::fixtures::{Authority, Backend, Proxy, Scratch, Tls, free_port};

#[tokio::test]
async fn a_name_is_shown_its_certificate() {
    let (authority, scratch) = (Authority::new("authority"), Scratch::new());
    let make = |names: &[&str], name: &str| {
        let identity = authority.server(names);
        (identity.write(&scratch, name), identity.der())
    };
    let (exact, exact_der) = make(&["a.example"], "exact");
    let (wildcard, wildcard_der) = make(&["*.w.example"], "wildcard");
    let (default, default_der) = make(&["default.example"], "default");
    let text =
        [site("a.example", &exact, ""), site("*.w.example", &wildcard, ""), site("", &default, "")].concat();
    let proxy = Proxy::toml(&listening(&text)).start().await;
    let target = proxy.listener(ADDRESS);
    for (name, expected) in [
        ("a.example", &exact_der),
        ("A.EXAMPLE", &exact_der),
        ("b.w.example", &wildcard_der),
        ("other.test", &default_der),
        ("127.0.0.1", &default_der),
    ] {
        assert!(shown(&target, &Tls::anybody().named(name)).await == *expected, "{name}");
    }
    for (name, body) in [("a.example", "a.example"), ("b.w.example", "*.w.example")] {
        for tls in [Tls::asking(name, &authority), Tls::asking(name, &authority).h2()] {
            assert_eq!(target.under(tls).get("/").await.expect(200).text(), body);
        }
    }
}

#[tokio::test]
async fn both_protocols_are_offered() {
    let simple = simple("", "").await;
    let tls = Tls::asking("localhost", &simple.authority);
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = tls.clone().offering(offered).connect(simple.target().address()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
    }
    assert!(tls.offering(&["spdy/1"]).connect(simple.target().address()).await.is_err());
}

#[tokio::test]
async fn old_versions_are_refused_where_the_site_says_so() {
    let (authority, scratch) = (Authority::new("authority"), Scratch::new());
    let new = format!("{}, min_version = \"1.3\"", authority.server(&["new.example"]).write(&scratch, "new"));
    let old = authority.server(&["old.example"]).write(&scratch, "old");
    let text = [site("new.example", &new, ""), site("old.example", &old, "")].concat();
    let proxy = Proxy::toml(&listening(&text)).start().await;
    let address = proxy.listener(ADDRESS).address();
    let only = |version, name| Tls::only(version).named(name);
    assert!(only(&rustls::version::TLS12, "old.example").connect(address).await.is_ok());
    assert!(only(&rustls::version::TLS12, "new.example").connect(address).await.is_err());
    assert!(only(&rustls::version::TLS13, "new.example").connect(address).await.is_ok());
}

#[tokio::test]
async fn http_leads_to_https_and_stays_there() {
    let (authority, scratch, port) = (Authority::new("authority"), Scratch::new(), free_port());
    let tls = authority.server(&["localhost"]).write(&scratch, "localhost");
    let tls = site("localhost", &tls, "redirect_https = { hsts = \"365d\", subdomains = true }");
    let text = listening(&tls).replace(ADDRESS, &format!("127.0.0.2:{port}"));
    let proxy = Proxy::toml(&text).start().await;
    for (method, status) in [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308)] {
        let answer = proxy.request(method, "/a%2Fb/../c?d=e&f").await.expect(status);
        assert_eq!(answer.header("location"), format!("https://localhost:{port}/a%2Fb/../c?d=e&f"));
        assert_eq!(answer.header("strict-transport-security"), "", "not by HTTP (RFC 6797 section 7.2)");
    }
    let answer = proxy.get("/").header("host", "localhost:8080").await.expect(301);
    assert_eq!(answer.header("location"), format!("https://localhost:{port}/"), "the port is another");
    let https = proxy.listener(&format!("127.0.0.2:{port}")).under(Tls::asking("localhost", &authority));
    for path in ["/", "/other"] {
        let answer = https.get(path).await;
        let said = answer.header("strict-transport-security");
        assert_eq!(said, "max-age=31536000; includeSubDomains", "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn clients_show_certificates_where_they_must() {
    let (authority, clients, scratch) =
        (Authority::new("authority"), Authority::new("clients"), Scratch::new());
    let ca = clients.write(&scratch, "clients");
    let open = authority.server(&["open.example"]).write(&scratch, "open");
    let asking = authority.server(&["asking.example"]).write(&scratch, "asking");
    let asking = format!("{asking}, client_ca = {ca:?}, client_verify = \"optional\"");
    let strict = authority.server(&["strict.example"]).write(&scratch, "strict");
    let strict = format!("{strict}, client_ca = {ca:?}");
    let text = [
        site("open.example", &open, ""),
        site("asking.example", &asking, ""),
        site("strict.example", &strict, ""),
    ];
    let proxy = Proxy::toml(&listening(&text.concat())).start().await;
    let target = proxy.listener(ADDRESS);
    let (good, bad) = (clients.client("somebody"), authority.client("an impostor"));
    for name in ["open.example", "asking.example", "strict.example"] {
        let ask = async |tls: Tls| target.under(tls).get("/").send().await.ok().map(|answer| answer.status);
        let without = ask(Tls::asking(name, &authority)).await;
        assert_eq!(without.is_some(), name != "strict.example", "{name}");
        assert_eq!(ask(Tls::showing(name, &authority, &good)).await, Some(200), "{name}");
        assert_eq!(ask(Tls::showing(name, &authority, &good).h2()).await, Some(200), "{name}");
        let impostor = ask(Tls::showing(name, &authority, &bad)).await;
        assert_eq!(impostor.is_some(), name == "open.example", "{name}");
    }
    // A connection that was made for a site that asks for less leads nowhere else.
    for tls in [Tls::asking("open.example", &authority), Tls::asking("open.example", &authority).h2()] {
        let other = target.under(tls.clone()).get("/").header("host", "strict.example");
        other.await.expect(421);
        target.under(tls).get("/").header("host", "asking.example").await.expect(421);
    }
    let wrong = Tls::showing("strict.example", &authority, &good);
    target.under(wrong).get("/").header("host", "open.example").await.expect(200);
    proxy.get("/").header("host", "strict.example").await.expect(403);
}

#[tokio::test]
async fn a_worker_and_the_log_are_told_how_a_client_came() {
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    let log = scratch.path("access.log");
    let proxy = Proxy::to([app.address()])
        .with(&format!("[log]\naccess = {{ to = {log:?}, format = \"json\" }}"))
        .secure()
        .start()
        .await;
    proxy.https().get("/1").await.expect(200);
    proxy.h2().get("/2").await.expect(200);
    let heads = app.heads().concat().to_ascii_lowercase();
    assert_eq!(heads.matches("x-forwarded-proto: https").count(), 2, "{heads}");
    let lines = async || std::fs::read_to_string(&log).unwrap_or_default();
    soon_eq!(lines().await.lines().count(), 2);
    let lines: Vec<serde_json::Value> =
        lines().await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, protocol) in lines.iter().zip(["HTTP/1.1", "HTTP/2.0"]) {
        assert_eq!(line["protocol"], protocol, "{line}");
        assert_eq!(line["tls"], "TLSv1.3", "{line}");
        assert!(line["cipher"].as_str().unwrap().starts_with("TLS13_"), "{line}");
    }
}
