//! `[site.galaxy]`: a whole site from galaxy.yml.

use std::process::Command;

use crate::fixtures::{Answer, Backend, Builder, Entry, Proxy, Scratch, ToolMap, run};

/// A Galaxy as it lies on disk, and its configuration.
struct Tree(Scratch);

impl Tree {
    /// Static files, plugins and a dataset of a Galaxy that runs from its sources.
    fn new() -> Self {
        let scratch = Scratch::new();
        for (name, content) in [
            ("server/lib/galaxy/version.py", "VERSION_MAJOR = \"26.1\""),
            ("server/static/style/base.css", "body {}"),
            ("server/static/favicon.ico", "icon"),
            ("server/static/robots.txt", "User-agent: *"),
            ("server/static/welcome.sample.html", "<p>sample</p>"),
            ("server/config/plugins/visualizations/jqplot/jqplot_bar/static/bar.js", "bar"),
            ("server/config/plugins/visualizations/annotate_image/static/a/image.js", "image"),
            ("server/config/secret.txt", "a secret"),
            ("data/objects/0/dataset_1.dat", "a dataset"),
            ("remote/dataset_2.dat", "another"),
        ] {
            scratch.write(name, content);
        }
        Self(scratch)
    }

    /// Writes galaxy.yml, with a gunicorn at `bind` and more lines of the section `galaxy:`.
    fn galaxy_yml(&self, bind: &str, more: &str) -> &Self {
        let here = self.0.root().display();
        let file = format!(
            "gravity:\n  galaxy_root: {here}/server\n  gunicorn:\n    bind: {bind}\ngalaxy:\n  data_dir: {here}/data\n{more}"
        );
        self.0.write("config/galaxy.yml", file);
        std::fs::create_dir_all(self.0.path("data/tmp")).unwrap();
        std::fs::create_dir_all(self.0.path("data/short_term_web_storage")).unwrap();
        self
    }

    /// The two lines.
    fn site(&self) -> Builder {
        let config = self.0.path("config/galaxy.yml");
        Proxy::toml(&format!(
            "[[site]]\nhost = [\"localhost\", \"127.0.0.1\", \"galaxy.test\"]\n[site.galaxy]\nconfig = {config:?}\n"
        ))
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }
}

const GOOD: &str = "  nginx_x_accel_redirect_base: /_x_accel_redirect\n  upstream_mod_zip: true\n";

/// An application that hands over the file in the query, lists it for an archive, or says what it was asked for.
async fn galaxy(name: &'static str) -> Backend {
    Backend::answering(move |head| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path.ends_with("/display") {
            let accel = format!("x-accel-redirect: /_x_accel_redirect{query}");
            return format!("HTTP/1.1 200 OK\r\n{accel}\r\ncontent-length: 0\r\n\r\n").into_bytes();
        }
        if path.ends_with("/archive.zip") {
            let list = format!("- 9 {query} set.dat\n");
            let head = format!("HTTP/1.1 200 OK\r\nX-Archive-Files: zip\r\nContent-Length: {}", list.len());
            return format!("{head}\r\n\r\n{list}").into_bytes();
        }
        let body = format!("{name} {target}");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await
}

async fn display(proxy: &Proxy, file: &str) -> Answer {
    proxy.get(&format!("/api/datasets/1/display?{file}")).await
}

#[tokio::test]
async fn two_lines_are_a_whole_site() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let proxy = tree.galaxy_yml(&app.address(), GOOD).site().start().await;
    assert_eq!(proxy.get("/api/version?a=b").await.expect(200).text(), "app /api/version?a=b");
    for (path, content) in [
        ("/static/style/base.css", "body {}"),
        ("/favicon.ico", "icon"),
        ("/robots.txt", "User-agent: *"),
        ("/static/welcome.html", "<p>sample</p>"),
        ("/plugins/visualizations/jqplot_bar/static/bar.js", "bar"),
        ("/plugins/visualizations/annotate_image/static/a/image.js", "image"),
    ] {
        let answer = proxy.get(path).await.expect(200);
        assert_eq!(answer.text(), content, "{path}");
        assert_eq!(answer.header("cache-control").is_empty(), path.ends_with("welcome.html"), "{path}");
    }
    assert_eq!(
        proxy.get("/static/welcome.html").await.header("content-type").split(';').next(),
        Some("text/html")
    );
    proxy.get("/plugins/visualizations/none/static/x.js").await.expect(404);
    assert_eq!(app.paths(), ["/api/version?a=b"], "the rest is not asked of Galaxy");
}

#[tokio::test]
async fn downloads_come_from_the_directories_of_datasets_alone() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let more = format!(
        "{GOOD}  object_store_config:\n    type: distributed\n    backends:\n      - type: disk\n      - type: aws_s3\n        \
         cache: {{path: {}}}\n",
        tree.path("remote")
    );
    let proxy = tree.galaxy_yml(&app.address(), &more).site().start().await;
    let (set, cached) = (tree.path("data/objects/0/dataset_1.dat"), tree.path("remote/dataset_2.dat"));
    assert_eq!(display(&proxy, &set).await.expect(200).text(), "a dataset");
    assert_eq!(display(&proxy, &cached).await.expect(200).text(), "another");
    for other in
        [tree.path("server/config/secret.txt"), tree.path("config/galaxy.yml"), "/etc/hostname".into()]
    {
        display(&proxy, &other).await.expect(404);
    }
    proxy.get(&format!("/_x_accel_redirect{set}")).await.expect(404);
    proxy.get(&set).await.expect(404);
    let answer = proxy.get(&format!("/api/histories/1/archive.zip?{set}")).await.expect(200);
    let archive = tree.0.write("got.zip", &answer.body);
    let (code, out, _) = run(Command::new("unzip").arg("-p").arg(&archive));
    assert_eq!((code, out.as_str()), (Some(0), "a dataset"));
}

#[tokio::test]
async fn a_directory_of_datasets_may_be_a_link() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    tree.0.link("data/linked", tree.0.path("remote"));
    let here = tree.path("data");
    let more = format!(
        "{GOOD}  object_store_config:\n    type: distributed\n    backends:\n      - {{type: disk, files_dir: {here}}}\n      \
         - {{type: disk, files_dir: {here}/linked}}\n"
    );
    let proxy = tree.galaxy_yml(&app.address(), &more).site().start().await;
    assert_eq!(display(&proxy, &format!("{here}/linked/dataset_2.dat")).await.expect(200).text(), "another");
    assert_eq!(
        display(&proxy, &format!("{here}/objects/0/dataset_1.dat")).await.expect(200).text(),
        "a dataset"
    );
}

#[tokio::test]
async fn a_change_of_galaxy_yml_takes_effect_on_reload() {
    let (tree, first, second) = (Tree::new(), galaxy("first").await, galaxy("second").await);
    let mut proxy = tree.galaxy_yml(&first.address(), GOOD).site().start().await;
    assert_eq!(proxy.get("/a").await.text(), "first /a");
    let remote = tree.path("remote/dataset_2.dat");
    display(&proxy, &remote).await.expect(404);

    let moved = format!("{GOOD}  file_path: {}\n", tree.path("remote"));
    tree.galaxy_yml(&second.address(), &moved);
    proxy.reload(tree.site()).await;
    assert_eq!(proxy.get("/a").await.text(), "second /a");
    assert_eq!(display(&proxy, &remote).await.expect(200).text(), "another");

    tree.0.write("config/galaxy.yml", "gravity:\n  gunicorn:\n    bind: [\n");
    proxy.reload(tree.site()).await;
    assert_eq!(proxy.get("/a").await.text(), "second /a", "a bad file changes nothing");
    let error = proxy.status().await["config"]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("galaxy.yml:3:11") && error.contains("not YAML"), "{error}");
}

#[tokio::test]
async fn a_route_written_by_hand_wins() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let site = tree.galaxy_yml(&app.address(), GOOD).site().with(
        "[site.routes]\n\"= /favicon.ico\" = { answer = 204 }\n\"/plugins\" = { answer = 410 }\n\
         \"/ours\" = { proxy = \"galaxy\", max_body = \"1k\" }\n",
    );
    let proxy = site.start().await;
    proxy.get("/favicon.ico").await.expect(204);
    proxy.get("/plugins/visualizations/jqplot_bar/static/bar.js").await.expect(410);
    proxy.get("/ours").method("POST").body("x".repeat(2000)).await.expect(413);
    proxy.get("/robots.txt").await.expect(200);
}

#[tokio::test]
async fn galaxy_may_have_a_prefix() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let more = format!("{GOOD}  galaxy_url_prefix: /galaxy\n");
    let proxy = tree.galaxy_yml(&app.address(), &more).site().start().await;
    assert_eq!(proxy.get("/galaxy/api/version").await.text(), "app /galaxy/api/version");
    assert_eq!(proxy.get("/galaxy").await.expect(302).header("location"), "/galaxy/");
    assert_eq!(proxy.get("/galaxy/static/style/base.css").await.text(), "body {}");
    assert_eq!(proxy.get("/galaxy/plugins/visualizations/jqplot_bar/static/bar.js").await.text(), "bar");
    let set = tree.path("data/objects/0/dataset_1.dat");
    let answer = proxy.get(&format!("/galaxy/api/datasets/1/display?{set}")).await.expect(200);
    assert_eq!(answer.text(), "a dataset");
    proxy.get("/static/style/base.css").await.expect(404);
}

#[tokio::test]
async fn interactive_tools_have_a_site_of_their_own() {
    let (tree, app, tools) = (Tree::new(), galaxy("app").await, galaxy("tools").await);
    let upstream =
        format!("interactive_tools = \"tools\"\n[upstream.tools]\nservers = [{:?}]\n", tools.address());
    let proxy = tree.galaxy_yml(&app.address(), GOOD).site().with(&upstream).start().await;
    let set = tree.path("data/objects/0/dataset_1.dat");
    let host = "3f-a1.ep.interactivetool.galaxy.test";
    assert_eq!(proxy.get("/lab?x").header("host", host).await.expect(200).text(), "tools /lab?x");
    assert_eq!(
        proxy.get("/static/style/base.css").header("host", host).await.text(),
        "tools /static/style/base.css"
    );
    let released = proxy.get(&format!("/display?{set}")).header("host", host).await;
    assert_ne!(released.text(), "a dataset", "a tool releases nothing of Galaxy");
    assert_eq!(proxy.get("/lab").header("host", "galaxy.test").await.text(), "app /lab");
}

#[tokio::test]
async fn interactive_tools_are_found_in_the_map_of_galaxy_yml() {
    let (tree, app, tool) = (Tree::new(), galaxy("app").await, galaxy("tool").await);
    let map = ToolMap::sqlite_in(tree.path("data"));
    let entry = Entry::new("3f", "a1", &tool.address());
    tree.galaxy_yml(&app.address(), &format!("{GOOD}  interactivetools_enable: true\n"));
    map.save(&entry);
    let proxy = tree.site().start().await;
    let set = tree.path("data/objects/0/dataset_1.dat");
    for (host, base) in [(entry.host_name().as_str(), ""), ("galaxy.test", entry.path("").as_str())] {
        let get = |path: &str| proxy.get(&format!("{base}{path}")).header("host", host);
        assert_eq!(get("/lab?x").await.expect(200).text(), "tool /lab?x");
        assert_ne!(
            get(&format!("/display?{set}")).await.text(),
            "a dataset",
            "a tool releases nothing of Galaxy"
        );
    }
    assert_eq!(proxy.get("/lab").header("host", "galaxy.test").await.text(), "app /lab");
}

#[tokio::test]
async fn services_of_gravity_are_served_too() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let (tusd, reports) = (galaxy("tusd").await, galaxy("reports").await);
    tree.galaxy_yml(&app.address(), GOOD);
    let file = std::fs::read_to_string(tree.0.path("config/galaxy.yml")).unwrap();
    let (_, port) = tusd.address().rsplit_once(':').map(|(_, port)| ((), port.to_owned())).unwrap();
    let services = format!(
        "gravity:\n  tusd: {{enable: true, host: 127.0.0.1, port: {port}, upload_dir: /data/tus}}\n  \
         reports: {{enable: true, bind: {}, url_prefix: /reports}}\n",
        reports.address()
    );
    tree.0.write("config/galaxy.yml", file.replace("gravity:\n", &services));
    let proxy = tree.site().start().await;
    assert_eq!(proxy.get("/api/upload/resumable_upload/3f?x").await.text(), "tusd /files/3f?x");
    assert_eq!(
        proxy.get("/api/job_files/resumable_upload").await.text(),
        "app /api/job_files/resumable_upload"
    );
    assert_eq!(proxy.get("/reports/jobs").await.text(), "reports /jobs");
    assert_eq!(proxy.get("/api/upload/hooks").await.text(), "app /api/upload/hooks");
}

#[tokio::test]
async fn each_host_may_have_its_welcome_page() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let page = tree.0.write("lab.html", "<p>of the lab</p>");
    let site = tree.galaxy_yml(&app.address(), GOOD).site();
    let proxy = site.with(&format!("welcome = {{ \"galaxy.test\" = {page:?} }}\n")).start().await;
    for (host, content) in [
        ("galaxy.test", "<p>of the lab</p>"),
        ("galaxy.test:8080", "<p>of the lab</p>"),
        ("localhost", "<p>sample</p>"),
    ] {
        let answer = proxy.get("/static/welcome.html").header("host", host).await.expect(200);
        assert_eq!(answer.text(), content, "{host}");
    }
}

#[tokio::test]
async fn pages_that_galaxy_allows_may_begin_a_login() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let more = format!("{GOOD}  allowed_origin_hostnames: lab.example.org,/.*\\.example\\.net/\n");
    let proxy = tree.galaxy_yml(&app.address(), &more).site().start().await;
    for (origin, is_allowed) in [
        ("https://lab.example.org", true),
        ("https://lab.example.org:8443", true),
        ("https://a.example.net", true),
        ("https://evil.example.org", false),
        ("https://lab.example.org.evil.example", false),
    ] {
        let answer = proxy.get("/authnz/oidc/login").header("origin", origin).await.expect(200);
        let allowed = if is_allowed { origin } else { "" };
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials").is_empty(), !is_allowed);
    }
    let other = proxy.get("/api/version").header("origin", "https://lab.example.org").await.expect(200);
    assert!(other.header("access-control-allow-origin").is_empty(), "the API's CORS is Galaxy's own");
}

#[tokio::test]
async fn what_galaxy_yml_lacks_is_said_with_the_line_to_add() {
    let tree = Tree::new();
    tree.galaxy_yml("localhost:8080", "  brand: ours\n");
    let file = tree.site().write(&tree.0);
    let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
    let said = out + &err;
    assert_eq!(code, Some(0), "{said}");
    for part in
        ["galaxy.yml:5:1", "nginx_x_accel_redirect_base: /_x_accel_redirect", "upstream_mod_zip: true"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    tree.galaxy_yml("localhost:8080", GOOD);
    let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
    assert!(code == Some(0) && !(out + &err).contains("warning"));
}

#[tokio::test]
async fn print_shows_the_routes_and_serves_the_same() {
    let (tree, app) = (Tree::new(), galaxy("app").await);
    let proxy = tree.galaxy_yml(&app.address(), GOOD).site().start().await;
    let printed = proxy.succeed("print");
    assert!(
        !printed.contains("[site.galaxy]") && printed.contains("# The web client.\n\"/static\""),
        "{printed}"
    );
    let (_, site) = printed.split_once("[[site]]").unwrap();
    let again = Proxy::toml(&format!("[[site]]{site}")).start().await;
    let set = tree.path("data/objects/0/dataset_1.dat");
    for proxy in [&proxy, &again] {
        assert_eq!(display(proxy, &set).await.expect(200).text(), "a dataset");
        assert_eq!(proxy.get("/static/style/base.css").await.expect(200).text(), "body {}");
    }
}
