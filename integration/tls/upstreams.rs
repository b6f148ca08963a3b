//! Servers that are spoken to under TLS.

use crate::fixtures::{Authority, Builder, Proxy, Scratch, eventually, tls_worker};

fn before(address: &str, tls: &str) -> Builder {
    Proxy::to([address]).with(&format!("protocol = \"https\"\nhold = \"0s\"\n{tls}"))
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_and_its_name() {
    let (authority, other, scratch) = (Authority::new("ours"), Authority::new("theirs"), Scratch::new());
    let (ours, theirs) = (authority.write(&scratch, "ours"), other.write(&scratch, "theirs"));
    let address = tls_worker(&authority.server(&["worker.example", "127.0.0.1"])).await;
    for (tls, expected) in [
        (format!("tls = {{ ca = {ours:?} }}"), Some("none")),
        (format!("tls = {{ ca = {ours:?}, server_name = \"worker.example\" }}"), Some("worker.example")),
        (format!("tls = {{ ca = {ours:?}, server_name = \"other.example\" }}"), None),
        (format!("tls = {{ ca = {theirs:?} }}"), None),
        ("tls = { verify = false, server_name = \"any.example\" }".into(), Some("any.example")),
    ] {
        let mut proxy = before(&address, &tls).start().await;
        let answer = proxy.get("/").await;
        match expected {
            Some(name) => assert_eq!((answer.status, answer.text().as_str()), (200, name), "{tls}"),
            None => {
                assert!([502, 503].contains(&answer.status), "{tls}: {answer:?}");
                proxy.process().logged("certificate").await;
            }
        }
    }
}

#[tokio::test]
async fn a_server_is_believed_by_its_own_certificate() {
    let scratch = Scratch::new();
    let authority = Authority::new("nobody knows it");
    let identity = authority.server(&["some.name"]);
    let own = format!("tls = {{ ca = {:?} }}", scratch.path("own.crt"));
    identity.write(&scratch, "own");
    let proxy = before(&tls_worker(&identity).await, &own).start().await;
    proxy.get("/").await.expect(200);
    let another = before(&tls_worker(&authority.server(&["some.name"])).await, &own).start().await;
    assert!([502, 503].contains(&another.get("/").await.status));
}

#[tokio::test]
async fn bodies_pass_and_connections_are_kept() {
    let authority = Authority::new("ours");
    let address = tls_worker(&authority.server(&["127.0.0.1"])).await;
    let proxy = before(&address, "tls = { verify = false }\nkeepalive = \"1s\"").secure().start().await;
    let body = crate::fixtures::noise(2_000_000);
    for target in [proxy.target(), proxy.https(), proxy.h2()] {
        let answer = target.request("POST", "/").body(body.clone()).await.expect(200);
        assert!(answer.body[4..] == body[..], "{target:?}");
        for _ in 0..3 {
            target.get("/").await.expect(200);
        }
    }
    soon_eq!(proxy.inflight().await, [0]);
}

/// Whether all of some requests, which kept connections would carry, are answered.
async fn is_believed(proxy: &Proxy) -> bool {
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(proxy.get("/").await.status);
    }
    let believed = statuses.iter().filter(|status| **status == 200).count();
    assert!(believed == 0 || believed == statuses.len(), "{statuses:?}");
    believed > 0
}

#[tokio::test]
async fn a_reload_that_changes_who_is_believed_ends_kept_connections() {
    let (authority, other, scratch) = (Authority::new("ours"), Authority::new("theirs"), Scratch::new());
    let (ours, theirs) = (authority.write(&scratch, "ours"), other.write(&scratch, "theirs"));
    let address = tls_worker(&authority.server(&["127.0.0.1"])).await;
    let with = |tls: &str| before(&address, &format!("tls = {{ {tls} }}\nkeepalive = \"1m\""));
    let good = format!("ca = {ours:?}");
    let mut proxy = with(&good).start().await;
    for bad in [format!("ca = {theirs:?}"), format!("ca = {ours:?}, server_name = \"other.example\"")] {
        assert!(is_believed(&proxy).await);
        proxy.reload(with(&bad)).await;
        assert!(!is_believed(&proxy).await, "{bad}");
        proxy.reload(with(&good)).await;
    }
    assert!(is_believed(&proxy).await);
}

#[tokio::test]
async fn a_server_is_believed_by_the_name_that_the_file_gives_it_now() {
    let (authority, scratch) = (Authority::new("ours"), Scratch::new());
    let ours = authority.write(&scratch, "ours");
    let address = tls_worker(&authority.server(&["localhost"])).await;
    let port = address.rsplit(':').next().unwrap().to_owned();
    let named = |host: &str| {
        before(&format!("{host}:{port}"), &format!("tls = {{ ca = {ours:?} }}\nkeepalive = \"1m\""))
    };
    let mut proxy = named("localhost").start().await;
    eventually("the name resolves", async || proxy.get("/").await.status == 200).await;
    // A request in flight keeps the server in mind over the reloads; the one before must be over to tell it.
    soon_eq!(proxy.inflight().await, [0]);
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe").await;
    soon_eq!(proxy.inflight().await, [1]);
    proxy.reload(named("127.0.0.1")).await;
    assert!(!is_believed(&proxy).await, "its certificate is not for the address");
    proxy.reload(named("localhost.")).await;
    eventually("it is believed again", async || proxy.get("/").await.status == 200).await;
    wire.send("llo").await;
    wire.answer().await.unwrap().expect(200);
}
