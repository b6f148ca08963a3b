//! Every configuration in `conf/` is good, and serves; every one in the documentation is good.

use std::{fs, path::Path};

use crate::fixtures::{Authority, Gunicorn, Proxy, Scratch, free_port, run};

/// The examples, with the places of a real machine replaced by a scratch folder and free ports.
fn examples(scratch: &Scratch) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let mut text = fs::read_to_string(&path).unwrap();
            for place in ["/srv/galaxy", "/run/galaxy", "/run/bowshock", "/var/log/bowshock", "/data"] {
                text =
                    text.replace(place, &scratch.path(place.trim_start_matches('/')).display().to_string());
            }
            for port in ["[::]:8080", "127.0.0.1:8080", "127.0.0.1:9180"] {
                text = text.replace(port, &format!("127.0.0.1:{}", free_port()));
            }
            (path.file_name().unwrap().to_string_lossy().into_owned(), with_admin(&text, &admin(scratch)))
        })
        .collect();
    examples.sort();
    assert!(examples.len() >= 3);
    examples
}

fn admin(scratch: &Scratch) -> String {
    format!("unix:{}", scratch.path("admin.sock").display())
}

/// The text with another admin listener.
fn with_admin(text: &str, address: &str) -> String {
    let line = format!("[admin]\nlisten = \"{address}\"");
    match text.split_once("[admin]\n") {
        Some((before, after)) => {
            let (_old, rest) = after.split_once('\n').unwrap();
            format!("{before}{line}\n{rest}")
        }
        None => format!("{line}\n{text}"),
    }
}

/// What the examples expect of a machine: folders, files and two workers.
async fn machine() -> (Scratch, Vec<Gunicorn>) {
    let scratch = Scratch::new();
    for folder in ["run/galaxy", "run/bowshock", "var/log/bowshock", "data", "srv/galaxy/var"] {
        fs::create_dir_all(scratch.path(folder)).unwrap();
    }
    for file in ["favicon.ico", "robots.txt", "style/base.css"] {
        scratch.write(&format!("srv/galaxy/server/static/{file}"), file);
    }
    scratch.write("data/set.dat", "a dataset");
    let mut workers: Vec<Gunicorn> = (0..2)
        .map(|number| {
            Gunicorn::app().unix(scratch.path(&format!("run/galaxy/gunicorn{number}.sock"))).spawn()
        })
        .collect();
    for worker in &mut workers {
        worker.ready().await;
    }
    (scratch, workers)
}

#[tokio::test]
async fn every_example_is_good_and_serves() {
    let (scratch, _workers) = machine().await;
    for (name, text) in examples(&scratch) {
        let file = scratch.write(&name, &text);
        let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
        assert_eq!(code, Some(0), "{name}: {out}{err}");
        assert!(!err.contains("warning"), "{name}: {err}");
        let proxy = Proxy::verbatim(&text, &admin(&scratch)).start().await;
        let ask = |path: &str| proxy.get(path).header("host", "galaxy.example.org");
        ask("/echo").await.expect(200);
        if name == "behind-nginx.toml" {
            proxy.get("/echo").header("host", "elsewhere.example.org").await.expect(404);
        } else {
            assert_eq!(ask("/static/style/base.css").await.expect(200).text(), "style/base.css");
            let dataset = format!("/accel?path=/_x_accel_redirect{}", scratch.path("data/set.dat").display());
            assert_eq!(ask(&dataset).await.expect(200).text(), "a dataset");
            ask("/_x_accel_redirect/etc/passwd").await.expect(404);
        }
        if name == "galaxy.toml" {
            assert_eq!(ask("/favicon.ico").await.expect(200).text(), "favicon.ico");
            ask("/api/dataset_collections/1/download").await.expect(200);
        }
    }
}

#[test]
fn the_systemd_unit_is_understood() {
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bowshock.service")).unwrap();
    for line in ["Type=notify", "ExecReload=/usr/local/bin/bowshock reload", "NoNewPrivileges=yes"] {
        assert!(unit.contains(line), "{line}");
    }
}

/// The blocks of TOML in a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    for part in page.split("```toml\n").skip(1) {
        blocks.push(part.split("```").next().unwrap().to_owned());
    }
    blocks
}

/// A block as a whole file: routes get a site, sites a route, and routes their upstreams.
fn completed(block: &str) -> String {
    let mut text = block.to_owned();
    if block.starts_with('"') {
        text = format!("[[site]]\n[site.routes]\n{block}");
    }
    if !text.contains("[[site]]") {
        text.push_str("\n[[site]]\n");
    }
    if !text.contains("[site.routes]") {
        text.push_str("\n[site.routes]\n\"/\" = { answer = 204 }\n");
    }
    if text.contains("[acme]") {
        text = text.replace(
            "[[site]]\n",
            "[[site]]\nhost = \"galaxy.example.org\"\ntls = { acme = \"admin@example.org\" }\n",
        );
    }
    for name in block.split("proxy = \"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let table = format!("[upstream.{name}]");
        if !text.contains(&table) {
            text.push_str(&format!("\n{table}\nservers = [\"127.0.0.1:5000\"]\n"));
        }
    }
    text
}

#[test]
fn every_configuration_in_the_documentation_is_good() {
    let scratch = Scratch::new();
    let authority = Authority::new("an authority");
    let identity = authority.server(&["galaxy.example.org"]);
    for (folder, cert, key) in [
        ("etc/ssl/galaxy", "fullchain.pem", "privkey.pem"),
        ("etc/letsencrypt/live/galaxy", "fullchain.pem", "privkey.pem"),
    ] {
        let folder = scratch.path(folder);
        fs::create_dir_all(&folder).unwrap();
        identity.write_to(&folder, "server");
        fs::rename(folder.join("server.crt"), folder.join(cert)).unwrap();
        fs::rename(folder.join("server.key"), folder.join(key)).unwrap();
    }
    for folder in
        ["srv/galaxy/var", "srv/galaxy/server/static", "data", "var/lib/bowshock/acme", "run/galaxy"]
    {
        fs::create_dir_all(scratch.path(folder)).unwrap();
    }
    scratch.write("etc/bowshock/tor-exits.txt", "192.0.2.7\n");
    scratch.write("etc/bowshock/eab.key", "c2VjcmV0\n");
    fs::copy(authority.write(&scratch, "authority"), scratch.path("etc/ssl/our-authority.pem")).unwrap();

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        pages.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut count = 0;
    for path in pages {
        for block in blocks(&fs::read_to_string(&path).unwrap()) {
            let mut text = completed(&block);
            for place in ["/etc/", "/srv/", "/data", "/var/lib/", "/run/galaxy/"] {
                let here = scratch.path(place.trim_start_matches('/')).display().to_string();
                // A slash at the end of a place is one of its path too.
                let here =
                    if place.ends_with('/') { format!("{}/", here.trim_end_matches('/')) } else { here };
                text = text.replace(&format!("\"{place}"), &format!("\"{here}"));
                text = text.replace(&format!("unix:{place}"), &format!("unix:{here}"));
            }
            let file = scratch.write("bowshock.toml", &text);
            let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
            assert_eq!(code, Some(0), "{}: {out}{err}", path.display());
            count += 1;
        }
    }
    assert!(count >= 7, "{count} blocks");
}
