//! The documentation: configurations pass `check`, commands run, metrics exist, links lead somewhere.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use regex::Regex;

use crate::fixtures::{Authority, Gunicorn, Proxy, Scratch, free_port, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page, with its path from the root of the repository.
fn pages() -> Vec<(PathBuf, String)> {
    let book = fs::read_dir(root().join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name));
    let mut pages: Vec<_> = book
        .chain(others)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    pages.sort();
    assert!(pages.len() > 15, "{} pages", pages.len());
    pages
}

/// The blocks of a page: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let (mut blocks, mut open): (Vec<_>, Option<(&str, String)>) = (Vec::new(), None);
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(word), None) => open = Some((word, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

/// A shell block that says nothing is run; so nobody can forget to say what a block is.
#[test]
fn every_block_says_what_it_is() {
    // The examples of keys in the reference are fragments; unit tests of the keys check them.
    const KNOWN: [&str; 9] =
        ["toml", "toml,ignore", "sh", "sh,norun", "yaml", "nginx", "promql", "sql", "text"];
    for (path, page) in pages() {
        for (word, text) in blocks(&page) {
            assert!(KNOWN.contains(&word), "{}: a block {word:?}:\n{text}", path.display());
        }
    }
}

/// A block as a whole file: routes get a site, sites a route, and routes their upstreams.
fn completed(block: &str) -> String {
    let mut text = block.to_owned();
    if block.starts_with(['"', '\'']) {
        text = format!("[[site]]\n[site.routes]\n{block}");
    }
    if !text.contains("[[site]]") {
        text.push_str("\n[[site]]\n");
    }
    if !text.contains("[site.routes]") && !text.contains("[site.galaxy]") {
        text.push_str("\n[site.routes]\n\"/\" = { answer = 204 }\n");
    }
    if text.contains("[acme]") {
        text = text.replace(
            "[[site]]\n",
            "[[site]]\nhost = \"galaxy.example.org\"\ntls = { acme = \"admin@example.org\" }\n",
        );
    }
    let names = ["proxy", "uploads", "reports", "interactive_tools"];
    let named = names.iter().flat_map(|key| block.split(&format!("{key} = \"")).skip(1).collect::<Vec<_>>());
    // A map of interactive tools is a path, or a URL.
    let named = named.map(|rest| rest.split('"').next().unwrap()).filter(|name| !name.contains('/'));
    for name in named {
        let table = format!("[upstream.{name}]");
        if !text.contains(&table) {
            text.push_str(&format!("\n{table}\nservers = [\"127.0.0.1:5000\"]\n"));
        }
    }
    text
}

#[test]
fn every_configuration_is_good() {
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
    for folder in [
        "srv/galaxy/var",
        "srv/galaxy/custom/static",
        "srv/galaxy/server/static",
        "srv/galaxy/server/config/plugins/visualizations",
        "data/shared",
        "var/lib/bowshock/acme",
        "var/lib/bowshock/cache",
        "var/log/bowshock",
        "run/galaxy",
        "run/bowshock",
    ] {
        fs::create_dir_all(scratch.path(folder)).unwrap();
    }
    for file in [
        "srv/galaxy/server/static/favicon.ico",
        "srv/galaxy/server/static/robots.txt",
        "srv/galaxy/errors/404.html",
        "srv/galaxy/errors/502.html",
        "srv/galaxy/errors/maintenance.html",
        "etc/bowshock/redirects.txt",
        "etc/bowshock/htpasswd",
        "etc/bowshock/gx_secret",
    ] {
        scratch.write(file, "");
    }
    scratch.write("etc/bowshock/tor-exits.txt", "192.0.2.7\n");
    let root = scratch.path("srv/galaxy/server").display().to_string();
    scratch.write(
        "srv/galaxy/config/galaxy.yml",
        format!("gravity: {{galaxy_root: {root}}}\ngalaxy: {{nginx_x_accel_redirect_base: /_x, upstream_mod_zip: true}}\n"),
    );
    scratch.write("etc/bowshock/eab.key", "c2VjcmV0\n");
    fs::copy(authority.write(&scratch, "authority"), scratch.path("etc/ssl/our-authority.pem")).unwrap();

    let mut count = 0;
    for (path, page) in pages() {
        for (_, block) in blocks(&page).iter().filter(|(word, _)| *word == "toml") {
            let mut text = completed(block);
            for place in
                ["/etc/", "/srv/", "/data", "/var/lib/", "/var/log/", "/run/galaxy/", "/run/bowshock/"]
            {
                let here = scratch.path(place.trim_start_matches('/')).display().to_string();
                // A slash at the end of a place is one of its path too.
                let here =
                    if place.ends_with('/') { format!("{}/", here.trim_end_matches('/')) } else { here };
                text = text.replace(&format!("\"{place}"), &format!("\"{here}"));
                for before in ["unix:", "file:"] {
                    text = text.replace(&format!("{before}{place}"), &format!("{before}{here}"));
                }
            }
            let file = scratch.write("bowshock.toml", &text);
            let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
            assert_eq!(code, Some(0), "{}:\n{block}\n{out}{err}", path.display());
            count += 1;
        }
    }
    assert!(count >= 30, "{count} blocks");
}

/// A machine on which the commands of a page can be run.
struct Machine {
    scratch: Scratch,
    proxy: Proxy,
    _workers: Vec<Gunicorn>,
    listener: u16,
    admin: u16,
}

impl Machine {
    async fn start() -> Self {
        let (scratch, listener, admin) = (Scratch::new(), free_port(), free_port());
        for folder in ["run/galaxy", "var/log/bowshock"] {
            fs::create_dir_all(scratch.path(folder)).unwrap();
        }
        scratch.write("data/set.dat", "a dataset");
        let mut workers = Vec::new();
        for number in 0..2 {
            let socket = scratch.path(&format!("run/galaxy/gunicorn{number}.sock"));
            workers.push(Gunicorn::app().unix(socket).spawn());
        }
        for worker in &mut workers {
            worker.ready().await;
        }
        // What is no business of these tests.
        scratch.write("bin/systemctl", "#!/bin/sh\nexit 0\n");
        fs::set_permissions(scratch.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bowshock"), scratch.path("bin/bowshock")).unwrap();
        let here = scratch.root().display();
        let text = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [log]\naccess = {{ to = \"{here}/var/log/bowshock/access.log\", format = \"json\" }}\n\
             [[listen]]\naddress = \"127.0.0.1:{listener}\"\n\
             [[site]]\n[site.routes]\n\"/\" = {{ proxy = \"galaxy\" }}\n\
             \"/_x_accel_redirect\" = {{ files = \"/\", internal = true, within = [\"{here}/data\"] }}\n\
             [upstream.galaxy]\n\
             servers = [\"unix:{here}/run/galaxy/gunicorn0.sock\", \"unix:{here}/run/galaxy/gunicorn1.sock\"]\n"
        );
        let proxy = Proxy::verbatim(&text, &format!("127.0.0.1:{admin}")).start().await;
        proxy.get("/pid").await.expect(200);
        Self { scratch, proxy, _workers: workers, listener, admin }
    }

    /// Runs commands as they stand in a page, in the folder of the configuration.
    fn run(&self, commands: &str) -> (Option<i32>, String, String) {
        let mut text = commands.to_owned();
        for place in ["/run/galaxy", "/var/log/bowshock", "/data/set.dat"] {
            text = text.replace(place, &self.scratch.path(&place[1..]).display().to_string());
        }
        text = text.replace("/etc/bowshock/bowshock.toml", "bowshock.toml");
        for (port, ours) in [(8080, self.listener), (9180, self.admin)] {
            text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{ours}"));
        }
        let path = format!("{}:{}", self.scratch.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("timeout");
        command.args(["60", "bash", "-euo", "pipefail", "-c", &text]).env("PATH", path);
        run(command.current_dir(self.proxy.file().parent().unwrap()))
    }
}

#[tokio::test]
async fn every_command_runs() {
    let machine = Machine::start().await;
    let mut count = 0;
    for (path, page) in pages() {
        for (_, commands) in blocks(&page).iter().filter(|(word, _)| *word == "sh") {
            let (code, out, err) = machine.run(commands);
            assert_eq!(code, Some(0), "{}:\n{commands}\n{out}{err}", path.display());
            count += 1;
        }
    }
    assert!(count >= 8, "{count} blocks");
    // What was drained is in use again.
    let galaxy = machine.proxy.upstream("galaxy").await;
    assert!(galaxy["servers"].as_array().unwrap().iter().all(|one| one["state"] != "draining"), "{galaxy}");
}

/// The text of all sources of the program.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn every_metric_that_is_named_is_there() {
    let sources = sources(&root().join("src"));
    let alerts = fs::read_to_string(root().join("conf/alerts.yml")).unwrap();
    let names = Regex::new(r"bowshock_([a-z_]+[a-z])\b").unwrap();
    for (path, page) in pages().into_iter().chain([(root().join("conf/alerts.yml"), alerts)]) {
        for found in names.captures_iter(&page) {
            let name = &found[1];
            let series = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            let is_there = |name: &str| {
                sources.contains(&format!("\"{name}\"")) || sources.contains(&format!("\"bowshock_{name}\""))
            };
            // A pattern of several, as for grep.
            let is_pattern = page.contains(&format!("bowshock_{name}("));
            assert!(is_there(series.unwrap_or(name)) || is_pattern, "{}: bowshock_{name}", path.display());
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let links = Regex::new(r"\]\(([^)#\s]*)(#[^)]*)?\)").unwrap();
    for (path, page) in pages() {
        for found in links.captures_iter(&page) {
            let (target, anchor) = (&found[1], found.get(2).map(|anchor| &anchor.as_str()[1..]));
            // The generated reference is made by a build of the book.
            if target.contains("://") || target == "reference.md" {
                continue;
            }
            let file = if target.is_empty() { path.clone() } else { path.parent().unwrap().join(target) };
            assert!(file.exists(), "{}: {target}", path.display());
            let Some(anchor) = anchor else { continue };
            let text = fs::read_to_string(&file).unwrap();
            let mut headings = text.lines().filter(|line| line.starts_with('#')).map(slug);
            assert!(headings.any(|slug| slug == anchor), "{}: {target}#{anchor}", path.display());
        }
    }
}

/// The anchor of a heading, as mdBook and GitHub make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
