//! Who may ask, by address, and what is refused while memory is short.

use crate::fixtures::{Backend, Builder, Proxy, Request, Scratch, eventually, ms, outcome, pass};

/// A site with these lines, whose clients are told by `X-Forwarded-For`.
fn site(lines: &str, route: &str) -> Builder {
    Proxy::toml(&format!(
        "[[site]]\n{lines}\n[site.routes]\n\"/\" = {{ answer = 200, body = \"in\" }}\n\
         \"/route\" = {{ answer = 200, body = \"in\", {route} }}\n"
    ))
    .listener("trust = [\"127.0.0.1/32\"]")
}

fn from(request: Request, address: &str) -> Request {
    request.header("x-forwarded-for", address)
}

async fn statuses(proxy: &Proxy, path: &str, addresses: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for address in addresses {
        statuses.push(from(proxy.get(path), address).await.status);
    }
    statuses
}

#[tokio::test]
async fn deny_goes_before_allow_and_a_route_has_its_own() {
    let lines = "allow = [\"10.0.0.0/8\", \"2001:db8::/32\"]\ndeny = [\"10.1.0.0/16\"]";
    let proxy = site(lines, "allow = [\"192.0.2.0/24\"]").start().await;
    let all = ["10.0.0.1", "10.1.0.1", "2001:db8::7", "192.0.2.1", "2001:db9::1"];
    assert_eq!(statuses(&proxy, "/", &all).await, [200, 403, 200, 403, 403]);
    assert_eq!(statuses(&proxy, "/route", &all).await, [403, 403, 403, 200, 403]);

    let answer = from(proxy.get("/").header("accept", "application/json"), "10.1.0.1").await.expect(403);
    assert!(answer.json()["err_msg"].as_str().unwrap().contains("10.1.0.1"), "{answer:?}");
    soon_eq!(proxy.metrics().await.sum("bowshock_refused_requests_total", &["reason=\"denied\""]), 8.0);
}

#[tokio::test]
async fn a_route_may_be_open_where_its_site_is_not() {
    let lines = "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]";
    let proxy = site(lines, "allow = \"all\", deny = []").start().await;
    let all = ["10.0.0.1", "10.1.0.1", "192.0.2.1"];
    assert_eq!(statuses(&proxy, "/", &all).await, [200, 403, 403]);
    assert_eq!(statuses(&proxy, "/route", &all).await, [200, 200, 200]);
}

#[tokio::test]
async fn who_is_not_believed_cannot_choose_its_address() {
    let proxy = site("deny = [\"127.0.0.1\"]", "").listener("").start().await;
    from(proxy.get("/"), "10.0.0.1").await.expect(403);
    let proxy = site("deny = [\"10.0.0.1\"]", "").start().await;
    // What is left of the first that is not trusted is the client's own invention.
    from(proxy.get("/"), "192.0.2.1, 10.0.0.1").await.expect(403);
    from(proxy.get("/"), "10.0.0.1, 192.0.2.1").await.expect(200);
}

#[tokio::test]
async fn a_file_of_networks_is_read_anew_at_each_reload() {
    let scratch = Scratch::new();
    let file = scratch.write("tor.txt", "# renewed by cron\n10.0.0.1\n2001:db8::/32 ; a comment\n");
    let configuration = site(&format!("deny = [\"{}\"]", file.display()), "");
    let mut proxy = configuration.clone().start().await;
    let all = ["10.0.0.1", "10.0.0.2", "2001:db8::1"];
    assert_eq!(statuses(&proxy, "/", &all).await, [403, 200, 403]);

    scratch.write("tor.txt", "10.0.0.2\n");
    assert_eq!(statuses(&proxy, "/", &all).await, [403, 200, 403]);
    proxy.reload(configuration.clone()).await;
    assert_eq!(statuses(&proxy, "/", &all).await, [200, 403, 200]);

    scratch.write("tor.txt", "10.0.0.1\nnonsense\n");
    proxy.reload(configuration.clone()).await;
    assert_eq!(statuses(&proxy, "/", &all).await, [200, 403, 200], "a bad list does not take effect");
    let error = proxy.status().await["config"]["error"].as_str().unwrap().to_owned();
    assert!(error.contains(&format!("{}:2", file.display())) && error.contains("nonsense"), "{error}");

    std::fs::remove_file(&file).unwrap();
    proxy.reload(configuration.clone()).await;
    assert_eq!(statuses(&proxy, "/", &all).await, [200, 403, 200], "nor does one that is not there");

    scratch.write("tor.txt", "");
    proxy.reload(configuration).await;
    assert_eq!(statuses(&proxy, "/", &all).await, [200, 200, 200]);
}

#[tokio::test]
async fn a_connection_that_is_open_learns_of_a_new_list() {
    let mut proxy = site("", "").start().await;
    let mut connection = proxy.connect().await;
    let ask = |connection: &crate::fixtures::Connection| from(connection.get("/"), "10.0.0.1");
    let request = ask(&connection);
    connection.send(request).await.unwrap().expect(200);
    proxy.reload(site("deny = [\"10.0.0.0/8\"]", "")).await;
    let request = ask(&connection);
    connection.send(request).await.unwrap().expect(403);
}

#[tokio::test]
async fn who_may_not_ask_reaches_no_worker() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).route("deny = [\"127.0.0.0/8\"]").start().await;
    proxy.post("/", "body").await.expect(403);
    // Also the handshake of a WebSocket.
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    wire.answer().await.unwrap().expect(403);
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.0\r\n\r\n").await;
    wire.answer().await.unwrap().expect(403);
    assert!(app.paths().is_empty());
}

#[tokio::test]
async fn a_request_that_waits_is_not_served_by_a_route_that_its_client_may_not_ask() {
    let app = Backend::saying("ok").await;
    let absent = Proxy::to(["unix:/tmp/nobody-is-here.sock"]);
    let mut proxy = absent.start().await;
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let text = "[[site]]\ndeny = [\"127.0.0.0/8\"]\n[site.routes]\n\"/\" = { proxy = \"other\" }\n\
                [upstream.other]\nservers = [\"@SERVER@\"]\n";
    proxy.reload(Proxy::toml(text).fill("SERVER", app.address())).await;
    outcome(request).await.expect(503);
    pass(ms(100)).await;
    assert!(app.paths().is_empty());
}
