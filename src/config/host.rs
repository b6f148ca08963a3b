//! Host names of a site: exact, `*.suffix` and `~regex`.

use regex::Regex;

use super::{
    address::is_name,
    diagnostic::{Problem, show},
    pattern::Regexes,
};

/// The pattern as written in a file.
pub fn written(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
        HostPattern::Regex(regex) => format!("~{regex}"),
    }
}

/// Pattern of host names: an entry of `site.host`.
#[derive(Debug, Clone)]
pub enum HostPattern {
    /// `galaxy.example.org`, in lower case.
    Exact(String),
    /// `*.example.org`, kept as `.example.org` in lower case.
    Suffix(String),
    /// `~regex`, matched against the lower-case name.
    Regex(Regex),
}

/// Reads one entry of `site.host`; names become lower case.
pub fn host(text: &str, regexes: &Regexes) -> Result<HostPattern, Problem> {
    if let Some(source) = text.strip_prefix('~') {
        return regexes.compile(source.trim_start(), false).map(HostPattern::Regex);
    }
    let name = text.to_ascii_lowercase();
    if let Some(suffix) = name.strip_prefix("*.")
        && is_name(suffix)
    {
        return Ok(HostPattern::Suffix(format!(".{suffix}")));
    }
    if is_name(&name) || is_ip(&name) { Ok(HostPattern::Exact(name)) } else { Err(problem(text, &name)) }
}

/// Whether `name` is an IP address as in a URL: IPv6 in brackets.
fn is_ip(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

fn problem(text: &str, name: &str) -> Problem {
    let problem =
        Problem::new(format!("{} is not a host name", show(text)), "not a name, `*.suffix` or `~regex`");
    if ["_", "*", "", "default"].contains(&name) {
        return Problem { label: "the default site has no `host`".into(), ..problem }
            .help("leave out `host`: such a site serves every name that no other site has");
    }
    if let Some(suffix) = name.strip_prefix('.').filter(|suffix| is_name(suffix)) {
        return problem.help(format!("write `[\"{suffix}\", \"*.{suffix}\"]`"));
    }
    if !name.is_ascii() {
        return problem
            .help("write the name as browsers send it: in ASCII, such as `\"xn--bcher-kva.example\"`");
    }
    let (scheme, rest) = name.split_once("://").unwrap_or(("", name));
    let bare = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = bare.rsplit_once(':').map_or(bare, |(bare, _)| bare).trim_end_matches('.').trim();
    if is_name(bare.strip_prefix("*.").unwrap_or(bare)) {
        let label = match scheme {
            "" => "only the name: no port, path, space or final dot",
            _ => "only the name: no scheme, port or path",
        };
        return Problem { label: label.into(), ..problem }.help(format!("write `\"{bare}\"`"));
    }
    if name.contains('*') {
        let source = regex::escape(name).replace("\\*", "[^.]+");
        // Shown in single quotes, where TOML leaves backslashes alone.
        if Regex::new(&source).is_ok() {
            return Problem { label: "`*` only stands first, for whole labels".into(), ..problem }
                .help(format!("write a regular expression: `'~^{source}$'`"));
        }
    }
    problem.help(
        "write for example `\"galaxy.example.org\"`, `\"*.example.org\"` \
         or `'~^galaxy[0-9]+\\.example\\.org$'`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<HostPattern, Problem> {
        super::host(text, &Regexes::default())
    }

    #[test]
    fn names_suffixes_and_expressions() {
        assert!(
            matches!(host("Galaxy.Example.org"), Ok(HostPattern::Exact(name)) if name == "galaxy.example.org")
        );
        assert!(matches!(host("*.Example.org"), Ok(HostPattern::Suffix(name)) if name == ".example.org"));
        assert!(matches!(host("~^g[0-9]$"), Ok(HostPattern::Regex(_))));
        assert!(host("localhost").is_ok() && host("127.0.0.1").is_ok() && host("[::1]").is_ok());
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (bad, suggestion) in [
            ("galaxy.example.org:443", "`\"galaxy.example.org\"`"),
            ("https://galaxy.example.org/", "`\"galaxy.example.org\"`"),
            ("galaxy.example.org.", "`\"galaxy.example.org\"`"),
            (".example.org", "`[\"example.org\", \"*.example.org\"]`"),
            ("www.*", "`'~^www\\.[^.]+$'`"),
            ("_", "leave out"),
            ("bücher.example", "ASCII"),
            ("a b", "for example"),
        ] {
            let problem = host(bad).unwrap_err();
            assert!(
                problem.help.as_deref().is_some_and(|help| help.contains(suggestion)),
                "{bad} {problem:?}"
            );
        }
    }
}
