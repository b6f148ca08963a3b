//! Large configuration: many sites, each with routes of every kind and workers of its own.

use std::fmt::Write as _;

/// The text of a configuration with `sites` sites of `routes` routes each.
pub fn text(sites: usize, routes: usize) -> String {
    let mut text = String::from("[admin]\nlisten = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n");
    for site in 0..sites {
        let host = host(site);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n[[site]]\nhost = [\"{host}\", \"*.{host}\"]\n\n[site.routes]");
        for number in 0..routes {
            let Sample { key, action, .. } = Sample::new(site, number);
            let _ = writeln!(text, "'{key}' = {{ {action} }}");
        }
        let _ = writeln!(text, "\n[upstream.galaxy{site}]\nservers = [");
        for worker in 0..2 {
            let _ = writeln!(text, "  \"unix:/run/galaxy{site}/gunicorn{worker}.sock\",");
        }
        text.push_str("]\n");
    }
    text
}

/// Host name of a site.
pub fn host(site: usize) -> String {
    format!("galaxy{site}.example.org")
}

/// Route of the large configuration.
pub struct Sample {
    /// Key in the file.
    pub key: String,
    /// Path that matches the route.
    pub path: String,
    action: String,
}

impl Sample {
    /// The route `number` of a site. The first one matches every path, and one of ten is a regex.
    pub fn new(site: usize, number: usize) -> Self {
        let (key, path, action) = match number % 10 {
            0 if number == 0 => ("/".into(), "/histories/list".into(), format!("proxy = \"galaxy{site}\"")),
            0 | 1 => (
                format!("/static{number}"),
                format!("/static{number}/style/base.css"),
                "files = \"/tmp\", expires = \"24h\", headers = { X-Frame-Options = \"DENY\" }".into(),
            ),
            2 => (
                format!("= /robots{number}.txt"),
                format!("/robots{number}.txt"),
                "answer = 200, body = \"User-agent: *\"".into(),
            ),
            3 => (
                format!("~ ^/plugins{number}/(?<type>[^/]+)/(?<name>[^/]+)/static/(?<file>.+)$"),
                format!("/plugins{number}/visualizations/charts/static/dist/index.js"),
                "files = \"/tmp/{type}/{name}/{file}\", expires = \"24h\"".into(),
            ),
            4 => (
                format!("/old{number}"),
                format!("/old{number}/datasets/display"),
                "redirect = \"https://{host}/new{path}\", status = 301".into(),
            ),
            5 => (
                format!("^~ /tus{number}"),
                format!("/tus{number}/7c1f3a"),
                format!("proxy = \"galaxy{site}\", max_body = \"none\", read_timeout = \"10m\""),
            ),
            _ => (
                format!("/api/area{number}/items"),
                format!("/api/area{number}/items/f2db41e1fa331b3e/contents"),
                format!("proxy = \"galaxy{site}\", methods = [\"GET\", \"POST\"]"),
            ),
        };
        Self { key, path, action }
    }
}
