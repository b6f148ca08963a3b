//! Stored responses (RFC 9111): one request of many for a miss, stale while no server is there, bounds, crashes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::fixtures::{Answer, Backend, Gate, Proxy, Request, Scratch, answers, eventually, vacant};

/// A server that counts: it responds with the number of the request, and with these headers.
async fn counting(fields: &'static str) -> Backend {
    counting_at(&vacant(), fields).await
}

async fn counting_at(address: &str, fields: &'static str) -> Backend {
    let count = Arc::new(AtomicU32::new(1));
    Backend::serving_at(address, move |mut wire, heads| {
        let count = Arc::clone(&count);
        async move {
            while let Some((head, _)) = wire.request().await {
                let number = count.fetch_add(1, Ordering::Relaxed).to_string();
                let is_head = head.starts_with("HEAD ");
                heads.lock().expect("no panic").push(head);
                let body = if is_head { "" } else { &*number };
                let response =
                    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", number.len());
                if wire.try_send(response.into_bytes()).await.is_err() {
                    break;
                }
            }
        }
    })
    .await
}

const TEXT: &str = r#"
[cache.pages]
@CACHE@
[[site]]
[site.routes]
"/" = { proxy = "app", cache = { use = "pages"@MORE@ } }
[upstream.app]
servers = ["@APP@"]
hold = "2s"
"#;

async fn proxy(app: &str, cache: &str, more: &str) -> Proxy {
    let text = Proxy::toml(TEXT).fill("CACHE", cache).fill("MORE", more).fill("APP", app);
    text.start().await
}

fn ask(proxy: &Proxy, path: &str) -> Request {
    proxy.get(path).header("host", "galaxy.example.org")
}

fn told(answer: &Answer) -> String {
    answer.header("cache-status")
}

#[tokio::test]
async fn a_response_is_stored_as_long_as_it_says() {
    let app = counting("Cache-Control: max-age=60\r\nETag: \"1\"\r\n").await;
    let proxy = proxy(&app.address(), "", "").await;
    let first = ask(&proxy, "/a?b").await.expect(200);
    assert_eq!((first.text().as_str(), told(&first).as_str()), ("1", "bowshock; fwd=uri-miss; stored"));
    let second = ask(&proxy, "/a?b").await.expect(200);
    assert_eq!(second.text(), "1");
    assert!(told(&second).starts_with("bowshock; hit; ttl="), "{second:?}");
    assert!(!second.all("age").is_empty());
    assert_eq!(
        proxy.request("HEAD", "/a?b").header("host", "galaxy.example.org").await.expect(200).text(),
        ""
    );
    assert_eq!(ask(&proxy, "/a?b").header("range", "bytes=0-0").await.expect(206).text(), "1");
    ask(&proxy, "/a?b").header("if-none-match", "\"1\"").await.expect(304);
    assert_eq!(app.heads().len(), 1);
    assert_eq!(ask(&proxy, "/a?c").await.text(), "2", "the query is part of the key");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bowshock_cache_requests_total", &["cache=\"pages\"", "result=\"hit\""]), 4.0);
    assert!(metrics.sum("bowshock_cache_bytes", &["where=\"memory\""]) > 0.0);
}

#[tokio::test]
async fn scheme_and_host_are_part_of_the_key() {
    let app = counting("Cache-Control: max-age=60\r\n").await;
    let proxy = Proxy::toml(TEXT)
        .fill("CACHE", "")
        .fill("MORE", "")
        .fill("APP", app.address())
        .listener("trust = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let get =
        |host: &str, scheme: &str| proxy.get("/").header("host", host).header("x-forwarded-proto", scheme);
    assert_eq!(get("a.example.org", "http").await.text(), "1");
    assert_eq!(get("b.example.org", "http").await.text(), "2");
    assert_eq!(get("a.example.org", "https").await.text(), "3");
    assert_eq!(get("A.example.org:80", "http").await.text(), "1");
    assert_eq!(get("a.example.org:8080", "http").await.text(), "4");
}

#[tokio::test]
async fn what_is_for_one_client_is_not_stored() {
    for fields in [
        "Cache-Control: private, max-age=60\r\n",
        "Cache-Control: no-store\r\n",
        "Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n",
        "Cache-Control: max-age=60\r\nVary: *\r\n",
    ] {
        let app = counting(fields).await;
        let proxy = proxy(&app.address(), "", ", ttl = \"1m\"").await;
        for number in ["1", "2", "3"] {
            assert_eq!(ask(&proxy, "/").await.text(), number, "{fields}");
        }
    }
    let app = counting("Cache-Control: public, max-age=60\r\nSet-Cookie: a=b\r\n").await;
    let proxy = proxy(&app.address(), "", ", set_cookie = true").await;
    let login = || ask(&proxy, "/").header("authorization", "Basic x");
    assert_eq!((login().await.text(), login().await.text()), ("1".into(), "2".into()));
    ask(&proxy, "/").await.expect(200);
    let stored = ask(&proxy, "/").await.expect(200);
    assert_eq!((stored.text().as_str(), stored.all("set-cookie").len()), ("3", 0));
}

#[tokio::test]
async fn responses_differ_by_the_headers_that_they_vary_by() {
    let app = counting("Cache-Control: max-age=60\r\nVary: Accept-Language\r\n").await;
    let proxy = proxy(&app.address(), "", ", vary_cookie = [\"lang\"]").await;
    let get = |language: &str, cookie: &str| {
        ask(&proxy, "/").header("accept-language", language).header("cookie", &format!("lang={cookie}"))
    };
    for (language, cookie, body) in [
        ("de", "a", "1"),
        ("en", "a", "2"),
        ("de", "b", "3"),
        ("de", "a", "1"),
        ("en", "a", "2"),
        ("de", "b", "3"),
    ] {
        assert_eq!(get(language, cookie).await.text(), body, "{language} {cookie}");
    }
    assert!(proxy.succeed("purge http://galaxy.example.org/").contains("pages"));
    assert_eq!(get("de", "a").await.text(), "4");
    assert_eq!(get("en", "a").await.text(), "5");
}

#[tokio::test]
async fn of_thirty_misses_one_asks_the_server() {
    let gate = Gate::shut();
    let held = gate.clone();
    let app = Backend::serving(move |mut wire, heads| {
        let gate = held.clone();
        async move {
            while let Some((head, _)) = wire.request().await {
                heads.lock().expect("no panic").push(head);
                gate.passed().await;
                let response =
                    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
                                 2\r\nhi\r\n0\r\n\r\n";
                let _ = wire.try_send(response.to_vec()).await;
            }
        }
    })
    .await;
    for cache in ["", "disk = \"@DISK@\""] {
        let scratch = Scratch::new();
        let cache = cache.replace("@DISK@", &scratch.path("cache").display().to_string());
        gate.close();
        let before = app.heads().len();
        let proxy = proxy(&app.address(), &cache, "").await;
        let all: Vec<_> = (0..30).map(|_| ask(&proxy, "/").spawn()).collect();
        eventually("one asks", async || app.heads().len() > before).await;
        gate.open();
        for answer in answers(all).await {
            assert_eq!(answer.text(), "hi");
        }
        assert_eq!(app.heads().len(), before + 1);
    }
}

#[tokio::test]
async fn a_stored_page_is_served_while_no_server_is_there() {
    let address = vacant();
    let app = counting_at(&address, "Cache-Control: max-age=0\r\nETag: \"1\"\r\n").await;
    let proxy = proxy(&address, "", "").await;
    assert_eq!(ask(&proxy, "/").await.text(), "1");
    drop(app);
    for _ in 0..3 {
        let stale = ask(&proxy, "/").await.expect(200);
        assert_eq!((stale.text().as_str(), told(&stale).as_str()), ("1", "bowshock; hit; detail=stale"));
    }
    ask(&proxy, "/other").await.expect(503);
    let app = counting_at(&address, "Cache-Control: max-age=0\r\nETag: \"2\"\r\n").await;
    eventually("the new one is served", async || {
        let answer = ask(&proxy, "/").await;
        answer.header("etag") == "\"2\""
    })
    .await;
    drop(app);
}

#[tokio::test]
async fn what_must_be_validated_is_never_stale() {
    let address = vacant();
    let app = counting_at(&address, "Cache-Control: max-age=0, must-revalidate\r\nETag: \"1\"\r\n").await;
    let proxy = proxy(&address, "", "").await;
    assert_eq!(ask(&proxy, "/").await.text(), "1");
    assert_eq!(ask(&proxy, "/").await.text(), "2");
    drop(app);
    ask(&proxy, "/").await.expect(503);
}

#[tokio::test]
async fn a_server_that_says_not_modified_renews_the_response() {
    let app = Backend::answering(|head| {
        let is_known = head.to_lowercase().contains("if-none-match: \"1\"");
        let (line, body) =
            if is_known { ("304 Not Modified", "") } else { ("200 OK", "Content-Length: 2\r\n") };
        let control = "Cache-Control: max-age=0, must-revalidate\r\nETag: \"1\"\r\n";
        let content = if is_known { "" } else { "hi" };
        format!("HTTP/1.1 {line}\r\n{control}{body}\r\n{content}").into_bytes()
    })
    .await;
    let proxy = proxy(&app.address(), "", "").await;
    assert_eq!(ask(&proxy, "/").await.expect(200).text(), "hi");
    let again = ask(&proxy, "/").await.expect(200);
    assert_eq!((again.text().as_str(), told(&again).as_str()), ("hi", "bowshock; fwd=stale; fwd-status=304"));
    assert_eq!(app.heads().len(), 2);
}

#[tokio::test]
async fn a_change_removes_what_is_stored() {
    let app = counting("Cache-Control: max-age=60\r\n").await;
    let proxy = proxy(&app.address(), "", "").await;
    assert_eq!(ask(&proxy, "/").await.text(), "1");
    proxy.post("/", "x").header("host", "galaxy.example.org").await.expect(200);
    assert_eq!(ask(&proxy, "/").await.text(), "3");
    assert_eq!(ask(&proxy, "/").header("cache-control", "no-cache").await.text(), "4");
    ask(&proxy, "/none").header("cache-control", "only-if-cached").await.expect(504);
}

#[tokio::test]
async fn responses_on_disk_survive_a_restart_and_torn_files_do_not() {
    let scratch = Scratch::new();
    let disk = format!("disk = {:?}", scratch.path("cache"));
    let app = counting("Cache-Control: max-age=600\r\n").await;
    let files = || {
        let entries = std::fs::read_dir(scratch.path("cache")).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "response")).collect::<Vec<_>>()
    };
    {
        let proxy = proxy(&app.address(), &disk, "").await;
        assert_eq!(ask(&proxy, "/whole").await.text(), "1");
        eventually("it is on disk", async || files().len() == 1).await;
        assert_eq!(ask(&proxy, "/torn").await.text(), "2");
        eventually("it is on disk", async || files().len() == 2).await;
        proxy.succeed("reload");
        assert_eq!(ask(&proxy, "/whole").await.text(), "1", "a reload keeps it");
    }
    let torn = files().into_iter().find(|path| std::fs::read(path).unwrap()[0] == b'2').unwrap();
    let length = std::fs::metadata(&torn).unwrap().len();
    std::fs::File::options().write(true).open(&torn).unwrap().set_len(length - 7).unwrap();
    let proxy = proxy(&app.address(), &disk, "").await;
    eventually("the torn one is deleted", async || files().len() == 1).await;
    eventually("the whole one is found", async || ask(&proxy, "/whole").await.text() == "1").await;
    assert_eq!(ask(&proxy, "/torn").await.text().parse::<u32>().unwrap(), app.heads().len() as u32);
}

#[tokio::test]
async fn a_cache_on_disk_is_bounded() {
    let scratch = Scratch::new();
    let cache = format!("memory = \"1m\"\ndisk = {:?}\ndisk_size = \"4m\"", scratch.path("cache"));
    let app = Backend::answering(|_| {
        let mut response =
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 500000\r\n\r\n".to_vec();
        response.resize(response.len() + 500_000, b'x');
        response
    })
    .await;
    let proxy = proxy(&app.address(), &cache, "").await;
    for number in 0..40 {
        assert_eq!(ask(&proxy, &format!("/{number}")).await.expect(200).body.len(), 500_000);
    }
    let size = || -> u64 {
        let entries = std::fs::read_dir(scratch.path("cache")).unwrap();
        entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
    };
    eventually("the oldest are gone", async || {
        proxy.metrics().await;
        size() <= 5 << 20
    })
    .await;
    assert!(size() > 1 << 20, "the newest are there");
    let part = ask(&proxy, "/39").header("range", "bytes=10-19").await.expect(206);
    assert_eq!(part.text(), "xxxxxxxxxx");
}

#[tokio::test]
async fn large_responses_are_stored_however_fast_they_come() {
    const LENGTH: usize = 40 << 20;
    let scratch = Scratch::new();
    let cache = format!("disk = {:?}\ndisk_size = \"1g\"", scratch.path("cache"));
    let app = Backend::answering(|_| {
        let mut response =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {LENGTH}\r\n\r\n")
                .into_bytes();
        response.resize(response.len() + LENGTH, b'x');
        response
    })
    .await;
    let proxy = proxy(&app.address(), &cache, "").await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(ask(&proxy, path).await.expect(200).body.len(), LENGTH);
    }
    for path in ["/a", "/b", "/c"] {
        let stored = ask(&proxy, path).await.expect(200);
        assert!(told(&stored).contains("hit"), "{path}: {}", told(&stored));
        assert!(stored.body.len() == LENGTH && stored.body.iter().all(|byte| *byte == b'x'));
    }
    assert_eq!(app.heads().len(), 3);
}
