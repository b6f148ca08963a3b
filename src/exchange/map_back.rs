//! URLs in a server's response, mapped back to those that the client asks for: the inverse of a route's `path`.

use http::{HeaderName, HeaderValue, header};

use crate::{
    config::Name,
    exchange::{RequestContext, resolve::host, values::Values},
    message::{EditHeaders, RequestHead},
    route::host_without_port,
};

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// Maps Location, Content-Location, Refresh, and the paths of cookies.
pub(super) fn map_back(response: &mut impl EditHeaders, request: &RequestHead, context: &RequestContext) {
    let Some(map) = PathMap::of(request, context) else { return };
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        if let Some(mapped) = response.get(&name).and_then(|value| map.reference(value)) {
            set(response, name, &mapped);
        }
    }
    if let Some(mapped) = response.get(&REFRESH).and_then(|value| map.refresh(value)) {
        set(response, REFRESH, &mapped);
    }
    let mut cookies: Vec<Vec<u8>> = Vec::new();
    let mut is_mapped = false;
    response.each(&header::SET_COOKIE, |cookie| {
        let mapped = map.cookie(cookie);
        is_mapped |= mapped.is_some();
        cookies.push(mapped.unwrap_or_else(|| cookie.to_vec()));
    });
    if is_mapped {
        response.remove(&header::SET_COOKIE);
        for cookie in cookies.iter().filter_map(|cookie| HeaderValue::from_bytes(cookie).ok()) {
            response.add(header::SET_COOKIE, cookie);
        }
    }
}

fn set(response: &mut impl EditHeaders, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        response.set(name, value);
    }
}

/// Paths of a server and those of clients in their place.
struct PathMap<'a> {
    request: &'a RequestHead,
    context: &'a RequestContext,
    /// Path of the server for the bare route.
    server: Vec<u8>,
    /// Path of clients in its place.
    client: &'a [u8],
    /// Whether what follows stays.
    keeps_rest: bool,
}

impl<'a> PathMap<'a> {
    /// The map of a request's route; `None` where nothing is to be mapped.
    fn of(request: &'a RequestHead, context: &'a RequestContext) -> Option<Self> {
        if let Some(tool) = &context.tool {
            let client = tool.removed_path()?;
            return Some(Self { request, context, server: Vec::new(), client, keeps_rest: true });
        }
        let proxy = &context.route.as_ref()?.settings.proxy;
        let path = proxy.path.as_ref().filter(|_| !proxy.keeps_location && context.redirect.is_none())?;
        let matched = context.matched.as_ref()?;
        let keeps_rest = path.names().any(|name| *name == Name::Rest);
        let values = Values::new(request, context);
        let server = path.render(|name, out| match name {
            Name::Rest => {}
            name => values.write_in_url(name, out),
        });
        Some(Self { request, context, server, client: &matched.prefix, keeps_rest })
    }

    /// The path of clients in the place of one of the server, if the rule can have made that.
    fn path(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.context.tool.is_some() && is_below(path, self.client) {
            // The tool was told its place in a header.
            return None;
        }
        let rest = path.strip_prefix(self.server.as_slice())?;
        let is_whole =
            rest.is_empty() || rest[0] == b'/' || self.server.is_empty() || self.server.ends_with(b"/");
        if !is_whole || !(self.keeps_rest || rest.is_empty()) {
            return None;
        }
        let slash = !rest.is_empty() && rest[0] != b'/' && !self.client.ends_with(b"/");
        let mapped = [self.client, if slash { b"/" } else { b"" }, rest].concat();
        Some(if mapped.is_empty() { b"/".to_vec() } else { mapped })
    }

    /// Maps a path with a query, or a URL that names this host or the upstream.
    fn reference(&self, reference: &[u8]) -> Option<Vec<u8>> {
        let Some((scheme, authority, target)) = absolute(reference) else {
            return self.target(reference);
        };
        if !self.is_here(authority) {
            return None;
        }
        let mapped = self.target(if target.is_empty() { b"/" } else { target })?;
        let own = self.context.client.as_ref().map(|client| client.scheme().as_bytes());
        let scheme = if scheme.is_empty() { b"" } else { own.unwrap_or(scheme) };
        let colon: &[u8] = if scheme.is_empty() { b"//" } else { b"://" };
        Some([scheme, colon, host(self.request).as_bytes(), &mapped].concat())
    }

    /// Maps a path with a query and a fragment.
    fn target(&self, target: &[u8]) -> Option<Vec<u8>> {
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
        if !target.starts_with(b"/") {
            return None;
        }
        let mut mapped = self.path(&target[..end])?;
        mapped.extend_from_slice(&target[end..]);
        Some(mapped)
    }

    /// Whether a URL with this authority leads here: it names the host that was asked for, or the server.
    fn is_here(&self, authority: &[u8]) -> bool {
        let Ok(authority) = std::str::from_utf8(authority) else { return false };
        let asked = host(self.request);
        let lease = self.context.lease.as_ref();
        let upstream = lease.map(|lease| &*lease.upstream().name);
        let server = lease.map(|lease| &*lease.server().label);
        let named = lease.map(|lease| &*lease.server().host);
        let same = |other: &str| authority.eq_ignore_ascii_case(other);
        same(asked)
            || host_without_port(authority).eq_ignore_ascii_case(host_without_port(asked))
            || [upstream, server, named].into_iter().flatten().any(same)
    }

    /// Maps the URL of a Refresh header: `5; url=/path`.
    fn refresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        let at = value.windows(4).position(|part| part.eq_ignore_ascii_case(b"url="))? + 4;
        Some([&value[..at], &self.reference(&value[at..])?].concat())
    }

    /// Maps the path of a cookie (RFC 6265 §4.1.2.4).
    fn cookie(&self, cookie: &[u8]) -> Option<Vec<u8>> {
        let mut is_mapped = false;
        let parts = cookie.split(|byte| *byte == b';').enumerate().map(|(place, part)| {
            let trimmed = part.trim_ascii_start();
            let is_path =
                place > 0 && trimmed.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"path="));
            let mapped = is_path.then(|| self.path(&trimmed[5..])).flatten();
            match mapped {
                Some(mut path) => {
                    is_mapped = true;
                    // A cookie for `/a/` would not be sent to `/a`.
                    if path.len() > 1 && path.ends_with(b"/") {
                        path.pop();
                    }
                    [b" Path=", path.as_slice()].concat()
                }
                None => part.to_vec(),
            }
        });
        let mapped = parts.collect::<Vec<_>>().join(&b';');
        is_mapped.then_some(mapped)
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Scheme, authority and the rest of a URL with an authority.
fn absolute(reference: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (scheme, rest) = match reference.strip_prefix(b"//") {
        Some(rest) => (&b""[..], rest),
        None => {
            let at = reference.windows(3).position(|part| part == b"://")?;
            let scheme = &reference[..at];
            if !scheme.iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            (scheme, &reference[at + 3..])
        }
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;

    fn request() -> Request {
        let head = b"GET /up/x HTTP/1.1\r\nHost: galaxy.example.org\r\n\r\n";
        crate::message::read_request(head, 0).unwrap().unwrap().0
    }

    /// Maps with a rule by which `client` stands for `server`.
    fn mapped(server: &str, client: &str, reference: &str) -> Option<String> {
        let (request, context) = (request(), RequestContext::new());
        let map = PathMap {
            request: &request.head,
            context: &context,
            server: server.into(),
            client: client.as_bytes(),
            keeps_rest: true,
        };
        map.reference(reference.as_bytes()).map(|mapped| String::from_utf8(mapped).unwrap())
    }

    #[test]
    fn urls_that_the_rule_made_are_mapped_back() {
        for (server, client, reference, expected) in [
            ("/files", "/up", "/files/1?a#b", Some("/up/1?a#b")),
            ("/files", "/up", "/files", Some("/up")),
            ("/files", "/up", "/filesystem", None),
            ("/files", "/up", "/login", None),
            ("/files", "/up", "http://galaxy.example.org/files/1", Some("http://galaxy.example.org/up/1")),
            (
                "/files",
                "/up",
                "http://galaxy.example.org:8080/files/1",
                Some("http://galaxy.example.org/up/1"),
            ),
            ("/files", "/up", "//galaxy.example.org/files/1", Some("//galaxy.example.org/up/1")),
            ("/files", "/up", "https://elsewhere.example.org/files/1", None),
            ("/files", "/up", "1", None),
            ("", "/app", "/login", Some("/app/login")),
            ("", "/app", "/", Some("/app/")),
            ("/files", "", "/files/1", Some("/1")),
            ("/files", "", "/files", Some("/")),
            ("/files/", "/up/", "/files/1", Some("/up/1")),
            ("/files/", "/up", "/files/1", Some("/up/1")),
        ] {
            assert_eq!(
                mapped(server, client, reference).as_deref(),
                expected,
                "{server} {client} {reference}"
            );
        }
    }

    #[test]
    fn cookies_and_refresh_are_mapped_back() {
        let (request, context) = (request(), RequestContext::new());
        let (server, client) = (b"".to_vec(), &b"/app"[..]);
        let map = PathMap { request: &request.head, context: &context, server, client, keeps_rest: true };
        let cookie =
            |text: &str| map.cookie(text.as_bytes()).map(|mapped| String::from_utf8(mapped).unwrap());
        assert_eq!(cookie("a=path=/x; path=/; Secure").as_deref(), Some("a=path=/x; Path=/app; Secure"));
        assert_eq!(cookie("a=b; Path=/x/").as_deref(), Some("a=b; Path=/app/x"));
        assert_eq!(cookie("a=b; Secure"), None);
        assert_eq!(map.refresh(b"5; URL=/x").unwrap(), b"5; URL=/app/x");
        assert_eq!(map.refresh(b"5"), None);
    }
}
