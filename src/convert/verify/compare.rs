//! Comparison of two responses, and the differences that are meant to be.

use std::{collections::BTreeMap, io::Read as _};

use crate::route::normalize;

use super::{client::Response, recorder::Recording, requests::Request};

/// What counts of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Status.
    pub status: u16,
    /// Headers that mean something to clients.
    pub headers: BTreeMap<String, String>,
    /// What the application was asked, if it was.
    pub asked: Option<Recording>,
    /// Body of a file.
    pub body: Vec<u8>,
}

/// Headers of responses that differ by nature: of the connection, of the program, of the moment.
const IGNORED: [&str; 18] = [
    "date",
    "server",
    "connection",
    "keep-alive",
    "x-request-id",
    "transfer-encoding",
    "content-length",
    "etag",
    "last-modified",
    "accept-ranges",
    "vary",
    "alt-svc",
    "via",
    "cache-status",
    "expires",
    "allow",
    "retry-after",
    "content-security-policy",
];

/// Headers to servers that the proxy sets by its own rules: see the guide.
const FORWARDED: [&str; 14] = [
    "connection",
    "upgrade",
    "te",
    "x-real-ip",
    "x-request-id",
    "forwarded",
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "via",
];

impl Seen {
    /// Reduces a response to what counts.
    pub fn of(response: &Response) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &response.headers {
            if !IGNORED.contains(&name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
        let body = decoded(response);
        let asked =
            headers.contains_key("x-application").then(|| serde_json::from_slice(&body).ok()).flatten();
        let asked: Option<Recording> = asked.map(|mut asked: Recording| {
            // WSGI reads `_` and `-` in names as the same.
            let headers = std::mem::take(&mut asked.headers);
            asked.headers =
                headers.into_iter().map(|(name, value)| (name.replace('_', "-"), value)).collect();
            asked.headers.retain(|name, _| !FORWARDED.contains(&name.as_str()));
            asked.target = same_spelling(&asked.target);
            // The port is that of the scratch directory.
            if let Some(host) = asked.headers.get_mut("host") {
                *host = without_port(&format!("http://{host}")).trim_start_matches("http://").to_owned();
            }
            asked
        });
        if let Some(media_type) = headers.get_mut("content-type") {
            *media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
            if media_type == "application/javascript" {
                *media_type = "text/javascript".into();
            }
        }
        if let Some(location) = headers.get_mut("location") {
            *location = without_port(location);
        }
        let is_own = asked.is_none();
        if is_own && !(200..300).contains(&response.status) {
            // Pages for people may differ.
            headers.remove("content-type");
            headers.remove("content-encoding");
            if headers.get("cache-control").is_some_and(|value| value == "no-store") {
                headers.remove("cache-control");
            }
        }
        let body = if is_own && matches!(response.status, 200 | 206) { body } else { Vec::new() };
        Self { status: response.status, headers, asked, body }
    }
}

/// The body without its content coding.
fn decoded(response: &Response) -> Vec<u8> {
    if response.header("content-encoding") != "gzip" {
        return response.body.clone();
    }
    let mut body = Vec::new();
    match flate2::read::GzDecoder::new(response.body.as_slice()).read_to_end(&mut body) {
        Ok(_) => body,
        Err(_) => response.body.clone(),
    }
}

/// A target whose path is decoded: servers read all spellings of a path as the same.
fn same_spelling(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"))
}

/// A URL without a port: both programs listen on others than the original.
fn without_port(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let host =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
    format!("{scheme}://{host}{path}")
}

/// Two views of the same request.
#[derive(Debug, Clone)]
pub struct Pair {
    /// By nginx.
    pub theirs: Seen,
    /// By bowshock.
    pub ours: Seen,
}

/// A difference that is meant to be.
struct Intended {
    /// What the result does, and why.
    why: &'static str,
    /// Removes the difference from a pair, if it is there.
    settle: fn(&Request, &mut Pair),
}

/// Tried in order, each on what those before it have left.
const INTENDED: &[Intended] = &[
    Intended {
        why: "Host passes as the client sent it, also to servers that are addresses",
        settle: |request, pair| {
            let (Some(theirs), Some(ours)) = (&mut pair.theirs.asked, &mut pair.ours.asked) else { return };
            let is_address = theirs.headers.get("host").is_some_and(|host| {
                !host.contains('.')
                    || host.starts_with("127.0.0.1")
                    || host.parse::<std::net::SocketAddr>().is_ok()
            });
            if is_address && ours.headers.get("host") == Some(&request.host) {
                ours.headers.remove("host");
                theirs.headers.remove("host");
            }
        },
    },
    Intended {
        why: "a redirect to HTTPS is one for all paths and hosts, to the host that was asked for",
        settle: |request, pair| {
            let to = |seen: &Seen| seen.headers.get("location").cloned().unwrap_or_default();
            let is_ours =
                !request.tls && to(&pair.ours) == format!("https://{}{}", request.host, request.target);
            if is_ours && matches!(pair.ours.status, 301 | 302 | 307 | 308) {
                pair.ours = pair.theirs.clone();
            }
        },
    },
    Intended {
        why: "a directory without an index is answered with 404, as what does not exist",
        settle: |request, pair| {
            let slashed = format!("{}/", request.target.split('?').next().unwrap_or_default());
            let to = pair
                .theirs
                .headers
                .get("location")
                .is_some_and(|to| to.split('?').next().unwrap_or_default().ends_with(&slashed));
            let is_missing = pair.ours.status == 404 || pair.ours.body == super::material::PAGE.as_bytes();
            if (pair.theirs.status == 403 || (pair.theirs.status == 301 && to)) && is_missing {
                pair.theirs = pair.ours.clone();
            }
        },
    },
    Intended {
        why: "other methods than GET and HEAD on files get 405, whether the file exists or not; OPTIONS gets 204",
        settle: |request, pair| {
            let is_other = !matches!(request.method.as_str(), "GET" | "HEAD");
            let is_own = pair.ours.asked.is_none() && pair.theirs.asked.is_none();
            if is_other && is_own && matches!(pair.ours.status, 204 | 405) {
                pair.theirs = pair.ours.clone();
            }
        },
    },
    Intended {
        why: "an authentication that answers otherwise than with 2xx, 401 or 403 is a failed gateway (502)",
        settle: |_, pair| {
            if pair.theirs.status == 500 && pair.ours.status == 502 && pair.theirs.asked.is_none() {
                pair.theirs.status = 502;
            }
        },
    },
    Intended {
        why: "a file of an unknown type is application/octet-stream",
        settle: |_, pair| {
            let is = |seen: &Seen, media_type: &str| {
                seen.headers.get("content-type").is_some_and(|known| known == media_type)
            };
            if is(&pair.ours, "application/octet-stream")
                && pair.ours.asked.is_none()
                && is(&pair.theirs, "text/plain")
            {
                pair.theirs.headers.insert("content-type".into(), "application/octet-stream".into());
            }
        },
    },
    Intended {
        why: "headers of sites and routes are on error responses, too",
        settle: |_, pair| {
            let has_errors =
                !matches!(pair.theirs.status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308);
            if has_errors && pair.theirs.status == pair.ours.status {
                let theirs = pair.theirs.headers.clone();
                pair.ours.headers.retain(|name, _| theirs.contains_key(name));
                let ours = pair.ours.headers.clone();
                // What a header removes or replaces on good responses, it does on errors as well.
                pair.theirs.headers.retain(|name, _| ours.contains_key(name));
                pair.ours.headers.iter_mut().for_each(|(name, value)| value.clone_from(&theirs[name]));
            }
        },
    },
    Intended {
        why: "a header has one value: that of `headers` replaces the application's",
        settle: |_, pair| {
            if pair.ours.asked.is_some() && pair.theirs.headers.contains_key("x-frame-options") {
                let ours = pair.ours.headers.get("x-frame-options").cloned();
                if let Some(ours) = ours {
                    pair.theirs.headers.insert("x-frame-options".into(), ours);
                }
            }
        },
    },
    Intended {
        why: "the headers of the application and of its route are kept with an accelerated download",
        settle: |request, pair| {
            let is_accelerated = request.headers.iter().any(|(name, _)| name == super::recorder::ACCEL);
            if is_accelerated && pair.theirs.status == pair.ours.status {
                let theirs = pair.theirs.headers.clone();
                pair.ours.headers.retain(|name, _| theirs.contains_key(name));
            }
            // The page of a missing file is that of the route of the request.
            if is_accelerated
                && pair.theirs.status == 404
                && pair.ours.body == super::material::PAGE.as_bytes()
            {
                pair.ours = pair.theirs.clone();
            }
        },
    },
    Intended {
        why: "a path is passed on as sent, where nginx resolves dots and slashes",
        settle: |_, pair| {
            let (Some(theirs), Some(ours)) = (&mut pair.theirs.asked, &pair.ours.asked) else { return };
            let resolved = |target: &str| {
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                normalize(path).ok().map(|path| format!("{path}?{query}"))
            };
            if resolved(&ours.target).is_some_and(|path| Some(path) == resolved(&theirs.target)) {
                theirs.target.clone_from(&ours.target);
            }
        },
    },
    Intended {
        why: "a redirect within the site is relative",
        settle: |request, pair| {
            let scheme = if request.tls { "https" } else { "http" };
            let own = format!("{scheme}://{}", request.host);
            let to = |seen: &Seen| seen.headers.get("location").cloned().unwrap_or_default();
            if to(&pair.theirs) == format!("{own}{}", to(&pair.ours)) {
                pair.theirs.headers.insert("location".into(), to(&pair.ours));
            }
        },
    },
    Intended {
        why: "a redirect of an application below another path is mapped back by the rule of `path`",
        settle: |request, pair| {
            let sent = request.headers.iter().find(|(name, _)| name == super::recorder::LOCATION);
            let (Some((_, sent)), Some(asked)) = (sent, pair.ours.asked.as_ref()) else { return };
            let path = request.target.split('?').next().unwrap_or_default();
            let is_other = !path.ends_with(&asked.target) || path == asked.target;
            let prefix = path.strip_suffix(asked.target.as_str()).filter(|_| !is_other).unwrap_or_default();
            let mapped = format!("{prefix}{sent}");
            let to = |seen: &Seen| seen.headers.get("location").cloned().unwrap_or_default();
            if to(&pair.theirs) == *sent && !prefix.is_empty() && to(&pair.ours) == mapped {
                pair.theirs.headers.insert("location".into(), mapped);
            }
        },
    },
    Intended {
        why: "a prefix is whole segments: `/a` is for `/a`, `/a/` and what is below, not for `/ab`",
        settle: |request, pair| {
            let path = request.target.split('?').next().unwrap_or_default();
            let prefix = request.about.rsplit(' ').next().unwrap_or_default();
            let is_bare = format!("{path}/") == prefix;
            let is_neighbour =
                path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
            if is_bare || (is_neighbour && !prefix.ends_with('/')) {
                pair.theirs = pair.ours.clone();
            }
        },
    },
    Intended {
        why: "`expires` is for content, not for redirects",
        settle: |_, pair| {
            let is_redirect = matches!(pair.theirs.status, 301 | 302 | 303 | 307 | 308);
            if (is_redirect || pair.ours.status == 404) && !pair.ours.headers.contains_key("cache-control") {
                pair.theirs.headers.remove("cache-control");
            }
        },
    },
    Intended {
        why: "the query is passed on, also where nginx drops it",
        settle: |request, pair| {
            let query = request.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
            let (Some(theirs), Some(ours)) = (&mut pair.theirs.asked, &pair.ours.asked) else { return };
            if format!("{}?{query}", theirs.target) == ours.target {
                theirs.target.clone_from(&ours.target);
            }
        },
    },
    Intended {
        why: "an error page is not cached, whatever its status",
        settle: |_, pair| {
            if pair.ours.body == super::material::PAGE.as_bytes() && pair.theirs.body == pair.ours.body {
                pair.ours.headers.remove("cache-control");
            }
        },
    },
    Intended {
        why: "a host that no site has gets an error, not a closed connection",
        settle: |_, pair| {
            if pair.theirs.status == 0 && pair.ours.status >= 400 && pair.ours.asked.is_none() {
                pair.theirs = pair.ours.clone();
            }
        },
    },
    Intended {
        why: "the status page is that of the admin listener",
        settle: |_, pair| {
            if pair.theirs.body.starts_with(b"Active connections") {
                pair.theirs = pair.ours.clone();
            }
        },
    },
    Intended {
        why: "hidden files are not served",
        settle: |request, pair| {
            if request.target.contains("/.") && pair.ours.status == 404 && pair.ours.asked.is_none() {
                pair.theirs = pair.ours.clone();
            }
        },
    },
    Intended {
        why: "icons are not compressed",
        settle: |request, pair| {
            let is_icon = request.target.split('?').next().is_some_and(|path| path.ends_with(".ico"));
            if is_icon && !pair.ours.headers.contains_key("content-encoding") {
                pair.theirs.headers.remove("content-encoding");
            }
        },
    },
    Intended {
        why: "a path that servers could read in two ways gets 400, and names no file",
        settle: |request, pair| {
            let path = request.target.split('?').next().unwrap_or_default().to_lowercase();
            let is_ambiguous =
                ["//", "/./", "/../", "%2f", "%2e", "%5c"].iter().any(|sign| path.contains(sign));
            if is_ambiguous
                && (pair.ours.status == 400 || (pair.ours.status == 404 && pair.ours.asked.is_none()))
            {
                pair.theirs = pair.ours.clone();
            }
        },
    },
];

/// Result of a comparison.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Equal in all that is compared.
    Equal,
    /// Different for reasons that are written down.
    Intended(Vec<&'static str>),
    /// Different otherwise.
    Different(String),
}

/// Compares what both programs made of a request.
pub fn compare(request: &Request, theirs: &Response, ours: &Response) -> Verdict {
    let mut pair = Pair { theirs: Seen::of(theirs), ours: Seen::of(ours) };
    let mut reasons = Vec::new();
    // The same redirect to HTTPS, whatever its status: 301 for GET, 308 for methods with a body.
    let to = |seen: &Seen| seen.headers.get("location").filter(|to| to.starts_with("https://")).cloned();
    let is_redirect = |seen: &Seen| matches!(seen.status, 301 | 302 | 303 | 307 | 308);
    if !request.tls
        && to(&pair.theirs).is_some()
        && to(&pair.theirs) == to(&pair.ours)
        && is_redirect(&pair.theirs)
        && is_redirect(&pair.ours)
    {
        pair.ours = pair.theirs.clone();
    }
    for intended in INTENDED {
        if pair.theirs == pair.ours {
            break;
        }
        let before = (pair.theirs.clone(), pair.ours.clone());
        (intended.settle)(request, &mut pair);
        if before != (pair.theirs.clone(), pair.ours.clone()) {
            reasons.push(intended.why);
        }
    }
    match (pair.theirs == pair.ours, reasons.is_empty()) {
        (true, true) => Verdict::Equal,
        (true, false) => Verdict::Intended(reasons),
        (false, _) => Verdict::Different(difference(&pair)),
    }
}

/// The first differences, in words.
fn difference(pair: &Pair) -> String {
    let Pair { theirs, ours } = pair;
    let mut found = Vec::new();
    let mut differ = |what: &str, theirs: &str, ours: &str| {
        if theirs != ours {
            found.push(format!("{what}: nginx {theirs:?}, bowshock {ours:?}"));
        }
    };
    differ("status", &theirs.status.to_string(), &ours.status.to_string());
    names(&theirs.headers, &ours.headers, |name, theirs, ours| differ(name, theirs, ours));
    match (&theirs.asked, &ours.asked) {
        (Some(theirs), Some(ours)) => {
            differ("upstream", &theirs.upstream, &ours.upstream);
            differ("method to the server", &theirs.method, &ours.method);
            differ("target to the server", &theirs.target, &ours.target);
            differ("body to the server", &theirs.body, &ours.body);
            names(&theirs.headers, &ours.headers, |name, theirs, ours| {
                differ(&format!("{name} to the server"), theirs, ours);
            });
        }
        (theirs, ours) => {
            let name = |asked: &Option<Recording>| {
                asked.as_ref().map_or("nobody".into(), |asked| asked.upstream.clone())
            };
            differ("asked", &name(theirs), &name(ours));
        }
    }
    if theirs.body != ours.body {
        differ("body", &String::from_utf8_lossy(&theirs.body), &String::from_utf8_lossy(&ours.body));
    }
    found.join("; ")
}

/// Calls back with each name that either has.
fn names(
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
    mut each: impl FnMut(&str, &str, &str),
) {
    let all: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    for name in all {
        let value = |of: &BTreeMap<String, String>| of.get(name).cloned().unwrap_or_else(|| "(none)".into());
        each(name, &value(theirs), &value(ours));
    }
}
