//! A maintenance switch, and files of redirects: what a site does before its routes.

use crate::fixtures::{Backend, Proxy, Scratch, eventually};

#[tokio::test]
async fn while_a_file_exists_everybody_but_operators_gets_503() {
    let scratch = Scratch::new();
    let (flag, page) = (scratch.path("maintenance"), scratch.write("page.html", "<h1>back at noon</h1>"));
    let app = Backend::saying("app").await;
    let text = r#"
[[site]]
maintenance = { file = "@FLAG@", page = "@PAGE@", retry_after = "30m", except = ["198.51.100.0/24"] }
redirects = "@MOVED@"
[site.routes]
"/" = { proxy = "app" }
"/files" = { files = "@ROOT@" }
[upstream.app]
servers = ["@APP@"]
"#;
    let moved = scratch.write("moved.txt", "/old /new\n");
    let proxy = Proxy::toml(text)
        .listener("trust = [\"127.0.0.0/8\"]")
        .fill("FLAG", flag.display())
        .fill("PAGE", page.display())
        .fill("MOVED", moved.display())
        .fill("ROOT", scratch.root().display())
        .fill("APP", app.address())
        .start()
        .await;
    assert_eq!(proxy.get("/").await.text(), "app");
    std::fs::write(&flag, "").unwrap();
    eventually("maintenance", async || proxy.get("/").await.status == 503).await;
    for (method, path) in [("GET", "/"), ("POST", "/api"), ("GET", "/files/page.html"), ("GET", "/old")] {
        let answer = proxy.request(method, path).header("accept", "text/html").await.expect(503);
        assert_eq!(answer.text(), "<h1>back at noon</h1>", "{method} {path}");
        assert_eq!(answer.header("retry-after"), "1800");
    }
    let json = proxy.get("/api").header("accept", "application/json").await.expect(503);
    assert!(json.json()["err_msg"].is_string());
    assert_eq!(proxy.get("/").header("x-forwarded-for", "198.51.100.7").await.expect(200).text(), "app");
    std::fs::remove_file(&flag).unwrap();
    eventually("served again", async || proxy.get("/").await.status == 200).await;
}

#[tokio::test]
async fn very_many_redirects_are_looked_up_before_the_routes() {
    let scratch = Scratch::new();
    let lines: String = (0..10_000).map(|number| format!("/old/{number} /new/{number}\n")).collect();
    let file = scratch.write(
        "moved.txt",
        format!("# moved\n{lines}/a%20b https://example.org/x 301\n/query /to?fixed=1 308\n"),
    );
    let text = "[[site]]\nredirects = \"@FILE@\"\n[site.routes]\n\"/\" = { answer = 200 }\n";
    let proxy = Proxy::toml(text).fill("FILE", file.display()).start().await;
    for (path, status, to) in [
        ("/old/0", 302, "/new/0"),
        ("/old/9999?a=b", 302, "/new/9999?a=b"),
        ("/a%20b", 301, "https://example.org/x"),
        ("/query?a=b", 308, "/to?fixed=1"),
        ("/OLD/0", 200, ""),
        ("/old/10000", 200, ""),
        ("/old/0/", 200, ""),
    ] {
        assert_eq!(proxy.get(path).await.expect(status).header("location"), to, "{path}");
    }
    std::fs::write(&file, "/old/0 /newer\n").unwrap();
    proxy.succeed("reload");
    assert_eq!(proxy.get("/old/0").await.header("location"), "/newer");
    std::fs::write(&file, "/old/0\n").unwrap();
    let (code, _, said) = proxy.ctl("check");
    assert_eq!(code, Some(1));
    assert!(said.contains("moved.txt:1"), "{said}");
}

#[tokio::test]
async fn other_files_add_their_tables() {
    let scratch = Scratch::new();
    scratch.write(
        "sites/a.toml",
        "[[site]]\nhost = \"a.example.org\"\nroutes = { \"/\" = { answer = 200, body = \"a\" } }\n",
    );
    let file = scratch.write(
        "sites/b.toml",
        "[[site]]\nhost = \"b.example.org\"\nroutes = { \"/\" = { answer = 200, body = \"b\" } }\n",
    );
    let admin = format!("unix:{}", scratch.path("admin.sock").display());
    let text = "include = [\"@ROOT@/sites/*.toml\"]\n[admin]\nlisten = \"@ADMIN@\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n[[site]]\nroutes = { \"/\" = { answer = 200, body = \"other\" } }\n";
    let proxy = Proxy::verbatim(text, &admin).fill("ADMIN", &admin).fill("ROOT", scratch.root().display());
    let proxy = proxy.start().await;
    let ask = |host: &str| proxy.get("/").header("host", host);
    assert_eq!(ask("a.example.org").await.text(), "a");
    assert_eq!(ask("b.example.org").await.text(), "b");
    assert_eq!(ask("c.example.org").await.text(), "other");
    std::fs::write(&file, "[[site]]\nhost = \"b.example.org\"\nroutes = { \"/\" = { anwser = 200 } }\n")
        .unwrap();
    let (code, _, said) = proxy.ctl("check");
    assert_eq!(code, Some(1));
    assert!(said.contains("sites/b.toml:3:20") && said.contains("did you mean `answer`?"), "{said}");
}
