//! `when`: one of several routes for the same path.

use crate::fixtures::{Proxy, Scratch, eventually};

#[tokio::test]
async fn the_first_route_whose_conditions_hold_is_used() {
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"/" = [
    { answer = 200, body = "post",   when = { methods = ["POST", "PUT"] } },
    { answer = 200, body = "get x",  when = { methods = ["GET"], query = { x = true } } },
    { answer = 200, body = "json",   when = { headers = { Accept = "~* ^application/JSON" } } },
    { answer = 200, body = "quiet",  when = { headers = { X-Requested-With = false }, cookies = { session = "abc" } } },
    { answer = 200, body = "bot",    when = { user_agents = ["bot"], networks = ["127.0.0.0/8"] } },
    { answer = 200, body = "decoded", when = { query = { q = "a b" } } },
    { answer = 200, body = "else" },
]
"/some" = [{ answer = 200, body = "some", when = { query = { x = "1" } } }]
"#,
    )
    .start()
    .await;
    let get = |path: &str| proxy.get(path);
    assert_eq!(proxy.post("/", "").await.text(), "post");
    assert_eq!(get("/?x").await.text(), "get x");
    assert_eq!(get("/").header("accept", "application/json").await.text(), "json");
    assert_eq!(get("/").header("cookie", "a=b; session=abc").await.text(), "quiet");
    let loud = get("/").header("cookie", "session=abc").header("x-requested-with", "y");
    assert_eq!(loud.await.text(), "else");
    assert_eq!(get("/").header("user-agent", "GoogleBot/2").await.text(), "bot");
    assert_eq!(get("/?q=%61+b").await.text(), "decoded");
    assert_eq!(get("/").await.text(), "else");
    proxy.request("HEAD", "/?x").await.expect(200);
    assert_eq!(get("/some?x=1").await.text(), "some");
    get("/some?x=2").await.expect(404);
}

#[tokio::test]
async fn a_file_switches_a_route() {
    let scratch = Scratch::new();
    let flag = scratch.path("closed");
    let proxy = Proxy::toml(
        r#"
[[site]]
[site.routes]
"/" = [{ answer = 503, body = "closed", when = { exists = "@FLAG@" } }, { answer = 200, body = "open" }]
"#,
    )
    .fill("FLAG", flag.display())
    .start()
    .await;
    assert_eq!(proxy.get("/").await.text(), "open");
    std::fs::write(&flag, "").unwrap();
    eventually("closed", async || proxy.get("/").await.text() == "closed").await;
    std::fs::remove_file(&flag).unwrap();
    eventually("open again", async || proxy.get("/").await.text() == "open").await;
}
