//! The `gravity:` section: where Galaxy and the services beside it listen.

use std::path::Path;

use super::file::Yaml;
use crate::config::{
    address,
    diagnostic::{Place, Problem, all_of, one_of, show},
    upstream::ServerAddress,
};

/// Name of an instance without `instance_name`.
const UNNAMED: &str = "_default_";

/// gravity's settings of one Galaxy.
#[derive(Debug, Default)]
pub struct Gravity {
    /// gunicorns of Galaxy, in the order of the file.
    pub galaxy: Vec<ServerAddress>,
    /// tusd for uploads of users.
    pub uploads: Option<Tusd>,
    /// tusd for results of remote jobs.
    pub job_uploads: Option<Tusd>,
    /// gx-it-proxy.
    pub tools: Option<ServerAddress>,
    /// The reports application.
    pub reports: Option<Reports>,
}

/// A tusd.
#[derive(Debug)]
pub struct Tusd {
    /// Where it listens.
    pub server: ServerAddress,
    /// Path of its uploads, without a trailing slash.
    pub base: String,
}

/// The reports application.
#[derive(Debug)]
pub struct Reports {
    /// Where it listens.
    pub server: ServerAddress,
    /// Path of the site below which it is served: `/reports`.
    pub prefix: Option<String>,
}

/// Selects the settings of one Galaxy from a file that may have several: by `instance_name`, or the only ones.
pub fn select<'a>(root: Yaml<'a>, instance: Option<(&str, Place)>) -> Option<Yaml<'a>> {
    let section = root.get("gravity")?;
    let all: Vec<Yaml<'_>> = section.one_or_more().into_iter().filter(|one| one.is_map()).collect();
    let name = |one: &Yaml<'a>| one.get("instance_name").and_then(Yaml::text).unwrap_or(UNNAMED);
    match instance {
        Some((wanted, place)) => {
            let found = all.iter().find(|one| name(one) == wanted).copied();
            if found.is_none() {
                let names: Vec<&str> = all.iter().map(name).collect();
                let problem = Problem::new(format!("gravity has no instance {}", show(wanted)), "unknown");
                section.error_at(&place, problem.help(format!("its `instance_name` is {}", one_of(&names))));
            }
            found
        }
        None if all.len() > 1 => {
            let names: Vec<&str> = all.iter().map(name).collect();
            section.error(Problem::new("the file has several instances of Galaxy", "more than one").help(
                format!("choose one of {} in `[site.galaxy]`: `instance = {:?}`", all_of(&names), names[0]),
            ));
            None
        }
        None => {
            let only = all.first().copied();
            if only.is_none() {
                section.error(Problem::new("`gravity` must be a map", "no `key: value` in it"));
            }
            only
        }
    }
}

/// Reads the settings, `binds` of Galaxy's own gunicorns only if they are needed. `root` is the directory that the paths of
/// sockets are relative to.
pub fn read(section: Option<Yaml<'_>>, root: Option<&Path>, binds: bool) -> Gravity {
    let get = |key| section.and_then(|section| section.get(key));
    let bind = |one: Yaml<'_>, default: &str| listening(one.get("bind"), default, root);
    let mut gravity = Gravity::default();
    if binds {
        gravity.galaxy = gunicorns(get("gunicorn"), root);
    }
    for tusd in get("tusd").map(Yaml::one_or_more).unwrap_or_default() {
        let Some(found) = enabled(tusd, false).then(|| read_tusd(tusd)).flatten() else { continue };
        let hook = tusd.get("hooks_http").and_then(Yaml::text).unwrap_or_default();
        let is_for_jobs = hook.contains("job_files");
        let place = if is_for_jobs { &mut gravity.job_uploads } else { &mut gravity.uploads };
        place.get_or_insert(found);
    }
    if let Some(tools) = get("gx_it_proxy").filter(|tools| enabled(*tools, false)) {
        gravity.tools = host_and_port(tools, "ip", 4002);
    }
    if let Some(reports) = get("reports").filter(|reports| enabled(*reports, false)) {
        let prefix =
            reports.get("url_prefix").and_then(Yaml::text).map(|text| format!("/{}", text.trim_matches('/')));
        gravity.reports = bind(reports, "localhost:9001").map(|server| Reports { server, prefix });
    }
    gravity
}

fn gunicorns(section: Option<Yaml<'_>>, root: Option<&Path>) -> Vec<ServerAddress> {
    const DEFAULT: &str = "localhost:8080";
    let Some(section) = section else { return listening(None, DEFAULT, root).into_iter().collect() };
    let all = section.one_or_more();
    let used = all.iter().filter(|one| enabled(**one, true));
    let servers: Vec<ServerAddress> =
        used.filter_map(|one| listening(one.get("bind"), DEFAULT, root)).collect();
    for (number, server) in servers.iter().enumerate() {
        if servers[..number].contains(server) {
            let problem = Problem::new(format!("two gunicorns listen on `{server}`"), "twice in this list");
            section.error(problem.help("give each a `bind` of its own"));
        }
    }
    servers
}

fn enabled(service: Yaml<'_>, default: bool) -> bool {
    service.get("enable").and_then(Yaml::flag).unwrap_or(default)
}

fn read_tusd(tusd: Yaml<'_>) -> Option<Tusd> {
    let arguments = tusd.get("extra_args").and_then(Yaml::text).unwrap_or_default();
    let words = arguments.split([' ', '=']).collect::<Vec<_>>();
    let base = words.windows(2).find(|pair| pair[0].trim_start_matches('-') == "base-path");
    let base = base.map_or("files", |pair| pair[1].trim_matches('/'));
    Some(Tusd { server: host_and_port(tusd, "host", 1080)?, base: format!("/{base}") })
}

fn host_and_port(service: Yaml<'_>, host: &str, default: u16) -> Option<ServerAddress> {
    let port = match service.get("port") {
        Some(port) => port.text()?.to_owned(),
        None => default.to_string(),
    };
    let host = service.get(host).and_then(Yaml::text).unwrap_or("localhost");
    parse(&format!("{host}:{port}"), None).map_err(|problem| service.error(problem)).ok()
}

fn listening(bind: Option<Yaml<'_>>, default: &str, root: Option<&Path>) -> Option<ServerAddress> {
    match bind {
        None => parse(default, root).ok(),
        Some(bind) => parse(bind.text()?, root).map_err(|problem| bind.error(problem)).ok(),
    }
}

/// Address to connect to, of a gunicorn that listens on `text`.
fn parse(text: &str, root: Option<&Path>) -> Result<ServerAddress, Problem> {
    /// Port of gunicorn where none is written.
    const PORT: u16 = 8000;
    if text.starts_with("fd:") {
        let problem = Problem::new(format!("{} is a socket of systemd", show(text)), "without an address");
        return Err(problem.help(
            "write where it listens in `[site.galaxy]`: `upstream = [\"unix:/run/galaxy/gunicorn.sock\"]`",
        ));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match root {
            _ if path.starts_with('/') => address::server(&format!("unix:{path}")),
            Some(root) => address::server(&format!("unix:{}", root.join(path).display())),
            None => address::server(text),
        };
    }
    let text = text.strip_prefix("tcp://").unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.to_owned()),
        _ => (text, PORT.to_string()),
    };
    // gunicorn resolves `localhost` to IPv4, and an address of all interfaces is one to listen on only.
    let host = match host {
        "" | "localhost" | "0.0.0.0" | "*" => "127.0.0.1",
        "[::]" | "::" => "[::1]",
        host => host,
    };
    address::server(&format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_addresses_to_connect_to() {
        for (bind, server) in [
            ("localhost:8080", "127.0.0.1:8080"),
            ("localhost", "127.0.0.1:8000"),
            (":8081", "127.0.0.1:8081"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[2001:db8::1]", "[2001:db8::1]:8000"),
            ("tcp://10.0.0.1:90", "10.0.0.1:90"),
            ("web1.example.org:8080", "web1.example.org:8080"),
            ("unix:/run/galaxy.sock", "unix:/run/galaxy.sock"),
            ("unix:///run/galaxy.sock", "unix:/run/galaxy.sock"),
            ("unix:run/galaxy.sock", "unix:/srv/galaxy/run/galaxy.sock"),
        ] {
            assert_eq!(parse(bind, Some(Path::new("/srv/galaxy"))).unwrap().to_string(), server, "{bind}");
        }
        for bad in ["fd://3", "localhost:http", "localhost:0", "a b:80"] {
            assert!(parse(bad, None).is_err(), "{bad}");
        }
        assert!(parse("unix:run/galaxy.sock", None).is_err());
    }
}
