//! The command line.

use crate::fixtures::{Gunicorn, Proxy, Scratch, run};

const GOOD: &str = r#"
[[listen]]
address = "127.0.0.1:0"
[[site]]
host = "galaxy.example.org"
[site.routes]
"/" = { proxy = "galaxy" }
[upstream.galaxy]
servers = ["unix:/run/galaxy.sock"]
"#;

/// Runs `bowshock WORD -c FILE` on a file with this content.
fn on_file(word: &str, content: &str) -> (Option<i32>, String, String) {
    let scratch = Scratch::new();
    let file = scratch.write("site.toml", content);
    run(Proxy::command([word, "-c"]).arg(file))
}

#[test]
fn a_good_file_is_good() {
    let (code, out, err) = on_file("check", GOOD);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn every_error_of_a_bad_file_is_shown_at_once_with_place_and_help() {
    let bad = GOOD
        .replace("{ proxy = \"galaxy\" }", "{ proxy = \"galaxi\" }")
        .replace("servers = [", "hold = \"5 minutes\"\nserver = [");
    let (code, out, err) = on_file("check", &bad);
    let words = format!("{out}{err}");
    assert_eq!(code, Some(1), "{words}");
    for part in [
        "site.toml:7:17",
        "galaxi",
        "galaxy", // an unknown upstream, and the one that was meant
        "5 minutes",
        "5m", // a duration, and how it is written
        "site.toml:10",
        "server",
        "servers", // an unknown key, and the one that was meant
        "^",
    ] {
        assert!(words.contains(part), "{part:?} is missing in\n{words}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_bad_and_one_that_is_not_there_unreadable() {
    let (code, out, err) = on_file("check", "[[site\n");
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(format!("{out}{err}").contains("site.toml:1"), "{out}{err}");
    for word in ["check", "run", "print"] {
        let (code, out, err) =
            run(Proxy::command([word, "-c", "/nonexistent/bowshock.toml"]).env_remove("NOTIFY_SOCKET"));
        assert_eq!(code, Some(2), "{word}: {out}{err}");
        assert!(err.contains("/nonexistent/bowshock.toml"), "{err}");
    }
}

#[test]
fn run_refuses_a_bad_file() {
    let (code, out, err) = on_file("run", &GOOD.replace("host =", "hots ="));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("hots") && err.contains("host"), "{err}");
}

#[test]
fn print_shows_what_is_in_effect_and_can_be_read_again() {
    let (code, out, err) = on_file("print", GOOD);
    assert_eq!(code, Some(0), "{err}");
    for part in ["galaxy.example.org", "unix:/run/galaxy.sock", "hold", "keepalive_timeout"] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    let (code, again, err) = on_file("print", &out);
    assert_eq!(code, Some(0), "what is printed is a configuration: {err}\n{out}");
    assert_eq!(out, again, "and means the same");
}

const WORKERS: &str = r#"
[server]
resolver = ["127.0.0.1:53", "127.0.0.2:5353"]
[[site]]
[site.routes]
"/" = { proxy = "app", hold = "10s", retry = { tries = 3, unsafe = true } }
[upstream.app]
servers = ["workers.example.org:8080", { address = "127.0.0.1:8081", weight = 2, max_requests = 5 }]
balance = "hash:cookie:galaxysession"
slow_start = "30s"
streaming_share = "50%"
queue_order = "newest"
load_header = "X-Load"
health = { path = "/x", every = "5s", timeout = "2s", expect = [200, 204] }
retry = { tries = 5, budget = "10%" }
"#;

#[test]
fn all_that_is_said_of_workers_is_read_and_printed() {
    let (code, out, err) = on_file("print", WORKERS);
    assert_eq!(code, Some(0), "{err}");
    for part in [
        "hash:cookie:galaxysession",
        "\"50%\"",
        "\"newest\"",
        "load_header",
        "204",
        "\"10%\"",
        "unsafe",
        "5353",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    assert_eq!(on_file("print", &out).1, out, "and means the same");
}

#[test]
fn a_wrong_word_about_workers_is_refused_at_its_place() {
    for (right, wrong) in [
        ("\"hash:cookie:galaxysession\"", "\"hash:colour\""),
        ("\"hash:cookie:galaxysession\"", "\"hash:cookie:\""),
        ("\"hash:cookie:galaxysession\"", "\"roundrobin\""),
        ("\"30s\"", "30"),
        ("\"50%\"", "\"half\""),
        ("\"50%\"", "\"101%\""),
        ("\"newest\"", "\"youngest\""),
        ("\"X-Load\"", "\"X Load\""),
        ("[200, 204]", "[20]"),
        ("tries = 5", "tries = 0"),
        ("\"10%\"", "10"),
        ("unsafe = true", "unsave = true"),
        ("\"127.0.0.2:5353\"", "\"dns.example.org\""),
    ] {
        let (code, out, err) = on_file("check", &WORKERS.replace(right, wrong));
        assert_eq!(code, Some(1), "{wrong}: {out}{err}");
        let line = 1 + WORKERS.lines().position(|line| line.contains(right)).unwrap();
        let place = format!("site.toml:{line}:");
        assert!(format!("{out}{err}").contains(&place), "{wrong} at {place}: {out}{err}");
    }
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let (code, out, _) = run(&mut Proxy::command(["--help"]));
    assert_eq!(code, Some(0));
    for word in ["run", "check", "print", "help", "schema", "reload", "status", "drain", "resume"] {
        assert!(out.contains(word), "{word} is missing in\n{out}");
        let (code, out, _) = run(&mut Proxy::command([word, "--help"]));
        assert_eq!(code, Some(0));
        assert!(out.contains("xample"), "{out}");
        assert!(out.contains(&format!("bowshock {word}")), "{out}");
    }
    let (code, out, _) = run(&mut Proxy::command(["--version"]));
    assert_eq!((code, out.trim()), (Some(0), concat!("bowshock ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_is_of_the_program_a_command_or_a_key() {
    let help = |words: &[&str]| run(Proxy::command(["help"]).args(words));
    let (code, program, _) = help(&[]);
    assert_eq!(code, Some(0));
    assert!(program.contains("Usage: bowshock") && program.contains("Exit codes"), "{program}");
    assert_eq!(program, run(&mut Proxy::command(["--help"])).1);
    for command in ["run", "status", "help"] {
        let (code, out, err) = help(&[command]);
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(out, run(&mut Proxy::command([command, "--help"])).1);
    }
    let (code, out, err) = help(&["upstream.hold"]);
    assert_eq!(code, Some(0), "{err}");
    for part in ["[upstream.NAME]", "duration", "\"5m\"", "hold = \"10m\""] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    let (code, out, err) = help(&["upstream"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("max_requests") && out.contains("queue_order"), "{out}");
    let (code, out, err) = help(&["max_request"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("`max_requests`"), "{err}");
}

#[test]
fn the_schema_is_json_for_editors() {
    let (code, out, err) = run(&mut Proxy::command(["schema"]));
    assert_eq!(code, Some(0), "{err}");
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    let hold = &schema["$defs"]["upstream-name"]["properties"]["hold"];
    assert_eq!((&hold["type"], &hold["default"]), (&"string".into(), &"5m".into()), "{hold}");
}

#[test]
fn an_unknown_command_is_refused() {
    let (code, _, err) = run(&mut Proxy::command(["reboot"]));
    assert_eq!(code, Some(2), "{err}");
}

#[tokio::test]
async fn status_is_a_table_of_servers() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    let (code, out, err) = proxy.ctl("status");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&worker.address()) && out.contains("up"), "{out}");
}

#[tokio::test]
async fn commands_say_so_when_no_proxy_runs() {
    let mut proxy = Proxy::to(["127.0.0.1:1"]).start().await;
    proxy.process().kill();
    for word in ["status", "reload", "drain 127.0.0.1:1", "resume 127.0.0.1:1"] {
        let (code, out, err) = proxy.ctl(word);
        assert!(code.is_some_and(|code| code != 0), "{word}: {out}");
        assert!(err.contains("admin.sock"), "{word} tells where it looked: {err}");
    }
}
