//! `bowshock convert`: what becomes of configurations of nginx, and the proof by replaying requests against both.

mod cases;
mod galaxy;

use std::process::Command;

use crate::fixtures::{Proxy, Scratch, run};

/// What `bowshock convert` gives for a file: exit code, the result, the report.
fn convert(scratch: &Scratch, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command: Command = Proxy::command(["convert"]);
    command.arg(scratch.path("nginx.conf")).args(arguments);
    run(&mut command)
}

/// Converts a text in place of a file.
fn converted(text: &str) -> (Option<i32>, String, String) {
    let scratch = Scratch::new();
    scratch.write("nginx.conf", text);
    let (code, out, err) = convert(&scratch, &[]);
    (code, out, err.replace(&scratch.root().display().to_string(), ""))
}

/// A server with these directives in it.
fn server(inner: &str) -> String {
    format!("http {{\nserver {{\nlisten 8080;\n{inner}\n}}\n}}\n")
}

#[test]
fn locations_become_routes() {
    for (location, route) in cases::ROUTES {
        let (_, toml, report) = converted(&server(location));
        let lines: Vec<String> = toml.lines().map(squeezed).collect();
        for expected in route.lines() {
            assert!(
                lines.contains(&squeezed(expected)),
                "{location}\nshould be\n{route}\nand is\n{toml}\n{report}"
            );
        }
    }
}

/// A line without the spaces that align it.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_directive_is_accounted_for() {
    let (code, _, report) = converted(&server("location / { proxy_pass http://127.0.0.1:1; }"));
    assert_eq!(code, Some(0), "{report}");
    assert!(
        report.ends_with(
            "5 directives: 5 carried over, 0 not needed, 0 reported (100.0 % carried over or not needed)\n"
        ),
        "{report}"
    );

    let (code, _, report) =
        converted(&server("location / { proxy_pass http://127.0.0.1:1; unheard_of on; ssi on; }"));
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("/nginx.conf:4:45: not carried over: unheard_of on\n"), "{report}");
    assert!(
        report.contains(
            "not carried over: ssi on\n    Server-side includes are not processed.\n    Write the pages"
        ),
        "{report}"
    );
}

#[test]
fn what_cannot_be_read_has_a_place() {
    let (code, out, report) = converted("http {\n  server { listen 80 }\n}\n");
    assert_eq!((code, out.as_str()), (Some(2), ""), "{report}");
    assert!(report.contains("/nginx.conf:2:12") && report.contains("`;`"), "{report}");
    let (code, _, report) = run(Proxy::command(["convert", "/nowhere/nginx.conf"]).arg("--reasons"));
    assert_eq!(code, Some(2), "{report}");
    assert!(report.contains("cannot read /nowhere/nginx.conf"), "{report}");
}

#[test]
fn includes_are_read_in_order() {
    let scratch = Scratch::new();
    scratch.write("nginx.conf", "http { include mime.types; include conf.d/*.conf; include missing.conf; }");
    scratch.write("conf.d/b.conf", "server { listen 81; server_name b.example; include snippets/app.conf; }");
    scratch.write("conf.d/a.conf", "server { listen 81; server_name a.example; include snippets/app.conf; }");
    scratch.write("snippets/app.conf", "location / { return 204; }");
    let (code, toml, report) = convert(&scratch, &[]);
    assert_eq!(code, Some(1), "{report}");
    assert!(toml.find("# a.example").unwrap() < toml.find("\"b.example\"").unwrap(), "{toml}");
    assert!(report.contains("missing.conf cannot be read"), "{report}");
}

#[test]
fn traps_are_pointed_out() {
    for (location, note) in [
        ("location /a { alias /srv/a/; }", "`/a../x` from the directory above"),
        ("location /x { internal; alias /; }", "any file of this machine"),
        (
            "location / { proxy_pass http://a.example; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }",
            "anybody can choose his address",
        ),
        ("add_header A 1; location / { add_header B 2; return 204; }", "does not send A from blocks"),
        ("location /a { proxy_pass http://127.0.0.1:1/; }", "with two slashes"),
        ("location / { proxy_pass https://a.example; }", "does not verify the certificate"),
    ] {
        let (_, _, report) = converted(&server(location));
        assert!(report.contains(note), "{location}\n{report}");
    }
}

#[test]
fn reasons_are_told_on_request() {
    let scratch = Scratch::new();
    scratch.write("nginx.conf", "user www; http { sendfile on; server { tcp_nodelay on; return 204; } }");
    let (code, _, report) = convert(&scratch, &["--reasons"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("not needed: sendfile: always on"), "{report}");
}

#[test]
fn apache_as_galaxy_documents_it() {
    let scratch = Scratch::new();
    scratch.write("nginx.conf", cases::APACHE);
    let (code, toml, report) = convert(&scratch, &["--apache"]);
    assert_eq!(code, Some(0), "{report}");
    let lines: Vec<String> = toml.lines().map(squeezed).collect();
    for expected in cases::FROM_APACHE.lines() {
        assert!(lines.contains(&squeezed(expected)), "{expected}\nis not in\n{toml}\n{report}");
    }
}

/// Each configuration is run by nginx, and its conversion by bowshock: what differs has a written reason.
#[track_caller]
fn proven(text: &str) {
    let scratch = Scratch::new();
    scratch.write("nginx.conf", text);
    let (code, proof, error) = convert(&scratch, &["--verify"]);
    let (_, toml, _) = convert(&scratch, &[]);
    assert_eq!(code, Some(0), "{proof}{error}\n{toml}");
}

#[test]
fn precedence_of_locations_is_kept() {
    proven(cases::PRECEDENCE);
}

#[test]
fn paths_for_servers_are_the_same() {
    proven(cases::PATHS);
}

#[test]
fn the_same_files_are_sent() {
    proven(cases::FILES);
}

#[test]
fn conditions_choose_the_same() {
    proven(cases::CONDITIONS);
}

#[test]
fn headers_are_the_same() {
    proven(cases::HEADERS);
}

#[test]
fn the_same_users_are_let_in() {
    proven(cases::AUTH);
}

#[test]
fn hosts_lead_to_the_same_servers() {
    proven(cases::HOSTS);
}

#[test]
fn what_certbot_wrote_is_understood() {
    let (code, toml, report) = converted(cases::CERTBOT);
    assert_eq!(code, Some(0), "{report}");
    let maintenance =
        r#"maintenance = { file = "/srv/maintenance.on", page = "/srv/pages/maintenance.html" }"#;
    for line in ["redirect_https = true", "deny = [\"192.0.2.0/24\"]", maintenance] {
        assert!(toml.lines().any(|written| squeezed(written) == line), "{line}\n{toml}");
    }
    proven(cases::CERTBOT);
}

#[test]
fn redirects_lead_to_the_same_places() {
    proven(cases::REDIRECTS);
}
