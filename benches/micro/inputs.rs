//! What the steps are done with.

/// A Galaxy server's site, and a listener for each kind of peer.
pub const SMALL: &str = r#"
[admin]
listen = "127.0.0.1:0"

[[listen]]
address = "127.0.0.1:0"

[[listen]]
address = "127.0.0.1:0"
trust = ["10.0.0.0/8"]

[[site]]
headers = { X-Content-Type-Options = "nosniff" }

[site.routes]
"/" = { proxy = "galaxy", read_timeout = "10m" }
"/static" = { files = "/tmp", expires = "24h" }
"= /favicon.ico" = { files = "/tmp", expires = "24h" }
"= /robots.txt" = { files = "/tmp", expires = "24h" }
"/_x_accel_redirect" = { files = "/", internal = true, within = ["/tmp"] }
"/api/events/stream" = { proxy = "galaxy", read_timeout = "1h" }
"/api/upload/resumable_upload" = { proxy = "galaxy", max_body = "none" }
"/api/job_files/resumable_upload" = { proxy = "galaxy", max_body = "none" }
'~ ^/api/dataset_collections/[^/]+/download/?$' = { proxy = "galaxy", read_timeout = "20m" }
'~ ^/plugins/(?<type>[^/]+)/(?<name>[^/]+)/static/(?<file>.+)$' = { files = "/tmp/{type}/{name}/{file}" }

[upstream.galaxy]
servers = ["unix:/run/galaxy/gunicorn0.sock", "unix:/run/galaxy/gunicorn1.sock"]
"#;

/// A site with so many regexes, all of which are tried for other paths.
pub fn regexes(count: usize) -> String {
    let route =
        |number| format!("'~ ^/plugins{number}/(?<name>[^/]+)/static/(?<file>.+)$' = {{ answer = 200 }}\n");
    let routes: String = (0..count).map(route).collect();
    SMALL.replace("[upstream.galaxy]", &format!("{routes}\n[upstream.galaxy]"))
}

/// What Firefox sends to a Galaxy server, and these fields.
pub fn browser(more: &str) -> String {
    let lines: String = FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /api/histories/f2db41e1fa331b3e/contents?limit=100&offset=0 HTTP/1.1\r\n{lines}{more}\r\n")
}

const FIELDS: [(&str, &str); 14] = [
    ("Host", "galaxy.example.org"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "application/json, text/plain, */*"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("X-Requested-With", "XMLHttpRequest"),
    ("Connection", "keep-alive"),
    ("Referer", "https://galaxy.example.org/histories/list"),
    ("Cookie", "galaxysession=c6ca0ddb55be603a5ebd4d3a6b9f1f4dcb52d7c4c1f8f4a7; session=0123456789abcdef"),
    ("Sec-Fetch-Dest", "empty"),
    ("Sec-Fetch-Mode", "cors"),
    ("Sec-Fetch-Site", "same-origin"),
    ("If-Modified-Since", "Sat, 01 Nov 2025 10:00:00 GMT"),
    ("Priority", "u=4"),
];

/// What a genome browser asks for: thirty parts, each a kilobyte and so far from the one before.
pub fn ranges(step: u64) -> String {
    let parts: Vec<String> = (0..30).map(|part| format!("{}-{}", part * step, part * step + 1023)).collect();
    format!("bytes={}", parts.join(","))
}
