//! Sites of a Galaxy become `[site.galaxy]`, as long as every response stays what it was.

use super::{converted, proven};

/// The server that Galaxy's documentation has, with what a test adds in place of `location /`.
fn documented(root_location: &str, more: &str) -> String {
    format!(
        r"http {{
    include mime.types;
    default_type application/octet-stream;
    gzip on;
    gzip_types text/plain text/css application/javascript application/json;
    client_max_body_size 10g;
    upstream galaxy {{ server unix:/srv/galaxy/var/gunicorn.sock; }}
    server {{
        listen 8080;
        {root_location}
        location /static {{ alias /srv/galaxy/server/static; expires 24h; }}
        location /robots.txt {{ alias /srv/galaxy/server/static/robots.txt; expires 24h; }}
        location /favicon.ico {{ alias /srv/galaxy/server/static/favicon.ico; expires 24h; }}
        location /_x_accel_redirect/ {{ internal; alias /; }}
        {more}
    }}
}}"
    )
}

const TO_GALAXY: &str = "location / { proxy_pass http://galaxy; proxy_set_header Host $host; }";

/// Plugins as in Galaxy's documentation.
const PLUGINS: &str = r"location ~ ^/plugins/(?<type>[^/]+?)/((?<d>[^/_]*)_?)?(?<name>[^/]*?)/static/(?<file>.*?)$ {
            alias /srv/galaxy/server/config/plugins/$type/;
            try_files $d/${d}_${name}/static/$file $d/static/$file =404;
        }";

/// The result, which has these lines.
#[track_caller]
fn has_galaxy(text: &str, expected: &str) -> String {
    let (_, toml, report) = converted(text);
    assert!(toml.contains(expected), "{expected}\nis not in\n{toml}\n{report}");
    assert!(report.contains("a Galaxy in "), "{report}");
    toml
}

#[test]
fn documented_site_is_four_lines() {
    let text = documented(TO_GALAXY, PLUGINS);
    let (_, toml, report) = converted(&text);
    let expected = r#"[[site]]
max_body = "10g"
compress = true

[site.galaxy]
root     = "/srv/galaxy/server"
upstream = "galaxy"

[site.routes]
"/_x_accel_redirect" = { files = "/", internal = true }
"#;
    assert!(toml.contains(expected), "{toml}\n{report}");
    assert!(
        report.contains(
            "/nginx.conf:11:9: note: a Galaxy in /srv/galaxy/server: `[site.galaxy]` stands for `/`, `/static`, `= /robots.txt`, \
             `= /favicon.ico`, and `bowshock print` shows its routes."
        ),
        "{report}"
    );
    proven(&text);
}

#[test]
fn galaxy_under_uwsgi_keeps_its_protocol() {
    let root = "location / { uwsgi_pass unix:///srv/galaxy/var/uwsgi.sock; include uwsgi_params; }";
    let text = documented(root, PLUGINS);
    let toml = has_galaxy(&text, "[site.galaxy]\nroot     = \"/srv/galaxy/server\"\nupstream = \"uwsgi\"\n");
    let upstream =
        "[upstream.uwsgi]\nservers  = [\"unix:/srv/galaxy/var/uwsgi.sock\"]\nprotocol = \"uwsgi\"\n";
    assert!(toml.contains(upstream), "{toml}");
    proven(&text);
}

#[test]
fn upstream_without_a_name_of_its_own_is_called_galaxy() {
    let root = "location / { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; }
        location /reports { proxy_pass http://127.0.0.1:9001; proxy_set_header Host $host; }";
    let text = documented(root, PLUGINS)
        .replace("upstream galaxy { server unix:/srv/galaxy/var/gunicorn.sock; }", "");
    let toml = has_galaxy(&text, "upstream = \"galaxy\"\n");
    for part in [
        "[upstream.galaxy]\nservers = [\"127.0.0.1:8080\"]",
        "\"/reports\"           = { proxy = \"reports\" }",
    ] {
        assert!(toml.contains(part), "{part}\n{toml}");
    }
    proven(&text);
}

#[test]
fn tusd_is_where_uploads_go() {
    let tusd = "location /api/upload/resumable_upload {
            client_max_body_size 0; proxy_pass http://127.0.0.1:1080/files; proxy_set_header Host $host;
        }";
    let text = documented(TO_GALAXY, &format!("{tusd} {PLUGINS}"));
    let toml = has_galaxy(&text, "uploads  = \"tusd\"\n");
    assert!(!toml.contains("resumable_upload"), "{toml}");
    proven(&text);
    // One that is asked for another path than tusd's own stays a route.
    let text = text.replace("1080/files", "1080");
    let toml = has_galaxy(&text, "upstream = \"galaxy\"\n");
    assert!(
        toml.contains("\"/api/upload/resumable_upload\" = { proxy = \"tusd\", max_body = \"none\" }"),
        "{toml}"
    );
    proven(&text);
}

#[test]
fn galaxy_below_a_prefix() {
    let text = r"http { include mime.types; server {
        listen 8080;
        location / { return 302 https://www.example.org/; }
        location /galaxy { proxy_pass http://unix:/run/galaxy.sock; proxy_set_header Host $host; }
        location /galaxy/static { alias /srv/galaxy/server/static; expires 24h; }
        location /galaxy/static/style { alias /srv/galaxy/server/static/style; expires 24h; }
        location /galaxy/favicon.ico { alias /srv/galaxy/server/static/favicon.ico; expires 24h; }
        location /galaxy/plugins { proxy_pass http://unix:/run/galaxy.sock; proxy_set_header Host $host; }
    } }";
    let toml = has_galaxy(
        text,
        r#"[site.galaxy]
root     = "/srv/galaxy/server"
upstream = "galaxy"
prefix   = "/galaxy"

[site.routes]
"/"               = { redirect = "https://www.example.org/" }
"/galaxy/plugins" = { proxy = "galaxy" }

# As it was in nginx.
"= /galaxy"       = { proxy = "galaxy" }

# As it was in nginx.
"= /robots.txt"   = { redirect = "https://www.example.org/" }
"#,
    );
    assert!(toml.contains("compress = false"), "{toml}");
    proven(text);
    // Another application has the rest of the host, its robots.txt too.
    let text = &text.replace(
        "return 302 https://www.example.org/;",
        "proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host;",
    );
    let toml = has_galaxy(text, "prefix   = \"/galaxy\"\n");
    assert!(toml.contains("\"= /robots.txt\"   = { proxy = \"app\" }"), "{toml}");
    proven(text);
}

#[test]
fn routes_that_differ_stay() {
    for (location, kept) in [
        // A timeout of nginx is no shorter and no longer than it was.
        (
            "location / { proxy_pass http://galaxy; proxy_read_timeout 180; }",
            r#""/"                  = { proxy = "galaxy", read_timeout = "3m" }"#,
        ),
        // Clients keep it for another time, or it is another file.
        (
            "location = /static/welcome.html { alias /srv/galaxy/welcome.html; expires 1h; }",
            r#""= /static/welcome.html" = { files = "/srv/galaxy/welcome.html", expires = "1h" }"#,
        ),
        (
            "location /static/style { alias /srv/galaxy/blue; expires 24h; }",
            r#""/static/style"      = { files = "/srv/galaxy/blue", expires = "24h" }"#,
        ),
        ("location ^~ /static/x { return 204; }", r#""^~ /static/x"       = { answer = 204 }"#),
        // Other applications of the same host.
        (
            "location /grafana { proxy_pass http://127.0.0.1:3000; }",
            r#""/grafana"           = { proxy = "grafana" }"#,
        ),
    ] {
        let is_root = location.starts_with("location / ");
        let text = match is_root {
            true => documented(location, PLUGINS),
            false => documented(TO_GALAXY, &format!("{location} {PLUGINS}")),
        };
        let toml = has_galaxy(&text, "[site.galaxy]\n");
        assert!(toml.contains(kept), "{kept}\nis not in\n{toml}");
        proven(&text);
    }
}

#[test]
fn settings_of_the_server_are_those_of_all_routes() {
    let settings =
        "auth_basic Staff; auth_basic_user_file /etc/passwords; add_header X-Site yes; deny 192.0.2.0/24;
        proxy_set_header Host $host; proxy_set_header X-From nginx;
        location /reports { proxy_pass http://127.0.0.1:9001; }";
    let text = documented("location / { proxy_pass http://galaxy; }", &format!("{settings} {PLUGINS}"));
    let toml = has_galaxy(
        &text,
        r#"deny            = ["192.0.2.0/24"]
headers         = { X-Site = "yes" }
auth            = "site"
request_headers = { X-From = "nginx" }

[site.galaxy]
"#,
    );
    assert!(!toml.contains("\n\"/\" "), "{toml}");
    proven(&text);
}

#[test]
fn welcome_page_is_a_key() {
    let page = "location = /static/welcome.html { alias /srv/galaxy/welcome.html; }";
    let text = documented(TO_GALAXY, &format!("{page} {PLUGINS}"));
    let toml = has_galaxy(&text, "welcome  = \"/srv/galaxy/welcome.html\"\n");
    assert!(!toml.contains("\"= /static/welcome.html\""), "{toml}");
    proven(&text);
}

#[test]
fn files_that_galaxy_sent_itself() {
    // Plugins may be in places that only Galaxy knows.
    let text = documented(TO_GALAXY, "");
    let toml = has_galaxy(
        &text,
        "# Galaxy sends files of plugins itself.\n\"/plugins\"           = { proxy = \"galaxy\" }\n",
    );
    assert!(toml.contains("[site.galaxy]"), "{toml}");
    proven(&text);
    // The icon is the same file either way, which the report says.
    let icon = "location /favicon.ico { alias /srv/galaxy/server/static/favicon.ico; expires 24h; }";
    let (_, toml, report) = converted(&documented(TO_GALAXY, PLUGINS).replace(icon, ""));
    assert!(toml.contains("[site.galaxy]"), "{toml}\n{report}");
    assert!(
        report.contains("Sent from /srv/galaxy/server/static, as Galaxy would send it: `/favicon.ico`"),
        "{report}"
    );
}

#[test]
fn plain_routes_stay_where_a_response_would_be_another_one() {
    for (root, more, why) in [
        (
            "location / { proxy_pass http://galaxy; add_header X-Site yes; }",
            "",
            "`/api/events/stream` would be served otherwise (`headers` of `/`)",
        ),
        // Users must log in for uploads and downloads, too.
        (
            "location / { auth_basic Staff; auth_basic_user_file /etc/passwords; proxy_pass http://galaxy; }",
            "",
            "(`auth` of `/`)",
        ),
        ("location / { deny 192.0.2.0/24; proxy_pass http://galaxy; }", "", "(`deny` of `/`)"),
        (
            "location / { proxy_pass http://galaxy; proxy_set_header X-From nginx; }",
            "location /reports { proxy_pass http://127.0.0.1:9001; }",
            "(`request_headers` of `/`)",
        ),
        (
            "location / { proxy_pass http://galaxy; error_page 502 /static/502.html; }",
            "",
            "(`errors` of `/`)",
        ),
        // Some requests wait for longer than `[site.galaxy]` does.
        ("location / { proxy_pass http://galaxy; proxy_read_timeout 2h; }", "", "(`read_timeout` of `/`)"),
        // Uploads are counted as other requests are.
        (TO_GALAXY, "limit_req zone=all;", "(`limit` of `/`)"),
        // Some of the added paths lead elsewhere.
        (TO_GALAXY, "location /api { proxy_pass http://127.0.0.1:9090; }", "(`proxy` of `/api`)"),
        (
            TO_GALAXY,
            "location /api/jobs/7 { proxy_pass http://127.0.0.1:9090; }",
            "(`proxy` of `/api/jobs/7`)",
        ),
        (
            TO_GALAXY,
            "location /api/ { if ($http_user_agent ~ bot) { return 403; } proxy_pass http://galaxy; }",
            "(alternatives of `/api`)",
        ),
        (TO_GALAXY, "location ^~ /api/ { proxy_pass http://galaxy; }", "expressions would be searched for"),
    ] {
        let text = documented(root, &format!("{more} {PLUGINS}")).replace(
            "upstream galaxy",
            "limit_req_zone $binary_remote_addr zone=all:1m rate=9r/s; upstream galaxy",
        );
        let (_, toml, report) = converted(&text);
        assert!(!toml.contains("[site.galaxy]"), "{root} {more}\n{toml}");
        assert!(toml.contains("\"/static\""), "{toml}");
        assert!(
            report.contains(
                "/nginx.conf:11:9: note: a Galaxy in /srv/galaxy/server, written as plain routes: "
            ) && report.contains(why),
            "{root} {more}\n{why}\n{report}"
        );
    }
}

#[test]
fn other_applications_are_no_galaxy() {
    for inner in [
        // Django.
        "location / { proxy_pass http://127.0.0.1:8000; } location /static { alias /opt/app/static; expires 24h; }",
        // A balancer in front of other machines.
        "location / { proxy_pass http://galaxy1.example.org:8080; } location /api/jobs { proxy_pass http://galaxy2.example.org:8080; }",
        "location / { return 204; } location /static { alias /srv/galaxy/server/static; expires 24h; }",
    ] {
        let (_, toml, report) = converted(&format!("http {{ server {{ listen 8080; {inner} }} }}"));
        assert!(
            !toml.contains("[site.galaxy]") && !report.contains("Galaxy in"),
            "{inner}\n{toml}\n{report}"
        );
    }
}

#[test]
fn result_is_a_configuration_of_bowshock() {
    let directory = crate::fixtures::Scratch::new();
    let root = directory.path("galaxy");
    directory.write("galaxy/static/robots.txt", "User-agent: *\n");
    directory.write("galaxy/static/dist/app.js", "1\n");
    directory.write("galaxy/config/plugins/visualizations/charts/static/script.js", "2\n");
    let text = documented(TO_GALAXY, PLUGINS).replace("/srv/galaxy/server", &root.display().to_string());
    let (_, toml, _) = converted(&text);
    directory.write("bowshock.toml", &toml);
    let mut check = crate::fixtures::Proxy::command(["check"]);
    let (code, out, err) = crate::fixtures::run(check.arg("-c").arg(directory.path("bowshock.toml")));
    assert_eq!(code, Some(0), "{out}{err}\n{toml}");
}
