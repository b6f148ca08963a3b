//! A site's own pages for errors.

use crate::fixtures::{Proxy, SOON, Scratch, SlowFiles, ms, within};

#[tokio::test]
async fn a_site_has_pages_of_its_own_for_errors() {
    let scratch = Scratch::new();
    scratch.write("root/a.txt", "a");
    let page = scratch.write("errors/404.html", "<h1>not at our place</h1>");
    let root = scratch.path("root");
    let text = format!(
        "[[site]]\nerrors = {{ 404 = {page:?} }}\n[site.routes]\n\
         \"/data\" = {{ files = {root:?}, expires = \"1h\" }}\n"
    );
    let proxy = Proxy::toml(&text).start().await;
    for path in ["/data/nothing", "/no/route"] {
        let answer = proxy.get(path).header("accept", "text/html").await.expect(404);
        assert_eq!(answer.text(), "<h1>not at our place</h1>", "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let json = proxy.get("/data/nothing").header("accept", "application/json").await.expect(404);
    assert!(json.json()["err_msg"].is_string(), "programs get what they can read");
    std::fs::remove_file(page).unwrap();
    assert!(proxy.get("/data/nothing").await.expect(404).text().contains("no such file"));
}

/// A site whose page for 404 is this file.
fn with_page(page: &std::path::Path) -> String {
    format!("[[site]]\nerrors = {{ 404 = {page:?} }}\n[site.routes]\n\"/here\" = {{ answer = 200 }}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_for_errors_that_does_not_come_is_not_waited_for() {
    let Some(slow) = SlowFiles::mount(ms(3_600_000)) else { return };
    let proxy = Proxy::toml(&with_page(&slow.root().join("small"))).start().await;
    // The files are gone before the proxy, whose threads in them could not be ended.
    let mut site = (slow, proxy);
    let proxy = &mut site.1;
    let asked: Vec<_> = (0..20).map(|_| proxy.get("/nothing").spawn()).collect();
    for asked in asked {
        let answer = within(SOON, "an answer", asked).await.unwrap().unwrap().expect(404);
        assert!(answer.text().contains("nothing at this address"), "{answer:?}");
    }
    proxy.process().logged("cannot open an error page (`errors`): cannot open").await;
    proxy.process().logged("it takes too long").await;
    // Five seconds are waited for the page once, and not for each of these.
    within(SOON, "answers that know of the trouble", async {
        for _ in 0..20 {
            proxy.get("/nothing").await.expect(404);
        }
    })
    .await;
    proxy.get("/here").await.expect(200);
}

#[tokio::test]
async fn a_page_for_errors_that_is_a_pipe_is_none() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut proxy = Proxy::toml(&with_page(&pipe)).start().await;
    let answer = proxy.get("/nothing").await.expect(404);
    assert!(answer.text().contains("nothing at this address"), "{answer:?}");
    proxy.process().logged("cannot open an error page (`errors`): no such file").await;
}
