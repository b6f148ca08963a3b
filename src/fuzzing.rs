//! Targets for cargo-fuzz: must not panic on any input, and must hold their assertions.

#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a finding is a panic")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use ipnet::IpNet;

use crate::{
    client::{Client, ConnectionInfo},
    config::{self, Action, Files, Part, Template, Trust},
    convert,
    downstream::{downgrade, fields, read_proxy_header, rewritten},
    files::{self, archive, range::Range},
    listen::PeerAddress,
    message::{BodyFraming, RawHeaders, Request, read_request, text},
    route::{PathMatch, normalize},
};

/// Asserts that no path leads out of its directory.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(path) = normalize(text) else { return };
    assert!(path.starts_with('/') && !path.contains('\0'), "{path:?}");
    assert!(path.split('/').all(|segment| segment != ".." && segment != "."), "{path:?}");
    let root = Template(vec![Part::Text("/srv/root".into())]);
    let files = Files { root, index: vec!["index.html".into()], ..Files::default() };
    let accelerated = files::accelerated::named(&files, text);
    for wanted in files::wanted(&files, &PathMatch::Prefix(&path), &|_, _| {}).into_iter().chain(accelerated)
    {
        for candidate in &wanted.candidates {
            assert!(candidate.starts_with(Path::new("/srv")), "{candidate:?}");
            assert!(
                candidate.components().all(|part| part != std::path::Component::ParentDir),
                "{candidate:?}"
            );
        }
    }
}

/// Asserts that a template that is accepted is printed as one that is read the same.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let quoted = toml::Value::String(text.into());
    let routes = format!(
        "[[site]]\nheaders = {{ X = {quoted} }}\n[site.routes]\n\"~ ^/(?<name>.*)\" = {{ proxy = \"a\", path = {quoted} }}\n\
         [upstream.a]\nservers = []\n"
    );
    let Ok(loaded) = config::parse("template.toml", &routes) else { return };
    let printed = config::print(&loaded.config);
    let again = config::parse("printed.toml", &printed).expect("what is printed can be read");
    assert_eq!(config::print(&again.config), printed);
}

/// Asserts that each line of a file of passwords is a user with a hash, or is told.
pub fn htpasswd(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (users, wrong) = config::read_htpasswd(&text);
    assert!(users.len() + wrong.len() <= text.lines().count());
    for (user, hash) in &users {
        assert!(!user.is_empty() && hash.starts_with(['$', '{']), "{user} {hash}");
    }
}

/// Asserts that ranges are inside the file, and that no byte is sent twice.
pub fn range(bytes: &[u8]) {
    let Some((size, value)) = bytes.split_first_chunk() else { return };
    let (size, value) = (u64::from_le_bytes(*size), text(value));
    let Range::Parts(mut spans) = Range::parse(value, size) else { return };
    spans.sort_by_key(|span| span.start);
    assert!(!spans.is_empty() && spans.iter().all(|span| span.length > 0 && span.end() <= size), "{spans:?}");
    assert!(spans.windows(2).all(|pair| pair[0].end() <= pair[1].start), "{spans:?}");
}

/// Parses a list of archive members.
pub fn archive_list(bytes: &[u8]) {
    archive::read_list(bytes);
}

/// Asserts that an accepted head is parsed the same again, however its bytes arrive, and that nothing in it contains
/// a line end.
pub fn request_head(bytes: &[u8]) {
    let Ok(Some((request, length))) = read_request(bytes, 0) else { return };
    assert!(length <= bytes.len());
    same(&request, request.head.headers.bytes());
    // The head may arrive in two parts, with further bytes behind it.
    let cut = usize::from(bytes[length - 1].wrapping_add(bytes[length / 2])) % length;
    assert!(read_request(&bytes[..cut], 0).is_ok_and(|part| part.is_none()), "taken before its end");
    let (again, end) = read_request(bytes, cut).expect("taken before").expect("whole");
    assert_eq!((end, again.head.headers.bytes()), (length, request.head.headers.bytes()));
    let (again, end) = read_request(&[&bytes[..length], b"\r\n"].concat(), 0).expect("taken").expect("whole");
    assert_eq!((end, again.head.headers.bytes()), (length, request.head.headers.bytes()));

    let headers = &request.head.headers.map();
    let hosts = headers.get_all(header::HOST).iter().count();
    assert!(hosts <= 1 && (hosts == 1 || request.head.version == Version::HTTP_10));
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    assert!(!is_chunked || headers.get_all(header::CONTENT_LENGTH).iter().next().is_none());
    assert_eq!(is_chunked, matches!(request.body, BodyFraming::Chunked(_)));
}

/// Whether a head is parsed the same from its own text, and has no line ends, NUL bytes or folded lines in its parts.
fn same(request: &Request, text: &[u8]) {
    let (again, length) = read_request(text, 0).expect("it was taken").expect("it is whole");
    assert_eq!(length, text.len());
    let (one, other) = (&request.head, &again.head);
    assert_eq!((&one.method, &one.target), (&other.method, &other.target));
    assert!(one.headers.iter().eq(other.headers.iter()));
    // A stream of HTTP/2 ends its body itself.
    assert!(request.body == again.body || request.body == BodyFraming::UntilClose);
    let fields = one.headers.iter().flat_map(|(name, value)| [name, value]);
    for part in fields.chain([one.method.as_str().as_bytes(), one.target.text()]) {
        assert!(!part.iter().any(|byte| b"\r\n\0".contains(byte)), "{part:?}");
    }
    let lines = text.split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(lines, one.headers.iter().count() + 2, "a line, a field on each, and an empty one");
    assert!(text.split(|byte| *byte == b'\n').all(|line| line.is_empty() || line.ends_with(b"\r")));
}

/// Asserts that a PROXY header is consumed from its first byte to its last, and not one more.
pub fn proxy_header(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mut rest = bytes;
        let told = read_proxy_header(&mut rest).now_or_never().expect("a slice is there at once");
        told.map(|told| (told.map(|announced| announced.client), bytes.len() - rest.len()))
    };
    let Ok((address, length)) = read(bytes) else { return };
    assert!((16..=16 + 4096).contains(&length) || bytes.starts_with(b"PROXY ") && length <= 107);
    assert_eq!(read(&bytes[..length]).expect("whole"), (address, length));
    assert!(read(&bytes[..length - 1]).is_err(), "it was not read to its end");
    if let Some(text) = bytes.strip_prefix(b"PROXY ") {
        let line = &text[..length - 6];
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let line = String::from_utf8_lossy(line);
        let is_unknown = line.starts_with("UNKNOWN");
        let named = address.is_some_and(|address| {
            if is_unknown {
                return address.ip().is_unspecified();
            }
            let mut words = line.split_whitespace().skip(1);
            words.next().and_then(|word| word.parse().ok()) == Some(address.ip())
                && words.nth(1).and_then(|word| word.parse().ok()) == Some(address.port())
        });
        assert!(named, "{line:?} {address:?}");
    }
}

/// Asserts that the client's address is the nearest one that is not trusted.
pub fn forwarded(bytes: &[u8]) {
    let Some(([how, a, b, last], text)) = bytes.split_first_chunk() else { return };
    let networks: Vec<IpNet> =
        ["10.0.0.0/8", "2001:db8::/32"].map(|one| one.parse().expect("a network")).into();
    let peer = match how % 4 {
        0 => PeerAddress::Unix { uid: (*a).into() },
        1 => PeerAddress::Tcp((Ipv4Addr::new(10, *a, *b, *last), 80).into()),
        2 => PeerAddress::Tcp((Ipv4Addr::new(*a, *b, 0, *last), 80).into()),
        _ => PeerAddress::Tcp((Ipv4Addr::new(10, 0, *b, *last).to_ipv6_mapped(), 80).into()),
    };
    let trust = Trust {
        all: how & 4 > 0,
        networks: if how & 8 > 0 { networks } else { Vec::new() },
        uids: if how & 16 > 0 { vec![1] } else { Vec::new() },
    };
    let mut request = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        let name = if value.is_some() { name } else { b"x-forwarded-for" };
        let name = HeaderName::from_bytes(name).unwrap_or(HeaderName::from_static("x-forwarded-for"));
        let Ok(value) = HeaderValue::from_bytes(value.unwrap_or(line)) else { continue };
        request.append(name, value);
    }
    let client = Client::from_parts(peer, &trust, ConnectionInfo::default(), &RawHeaders::from(&request));
    // Without `X-Forwarded-For`, `Forwarded` is evaluated in the same way.
    if request.contains_key("x-forwarded-for") || !request.contains_key(header::FORWARDED) {
        assert_eq!(client.address, believed(peer, &trust, &request));
    }
    let trusted = client.is_trusted();
    client.forward(&mut request);
    for name in request.keys().map(HeaderName::as_str) {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name}");
        assert!(name != "forwarded" && name != "proxy", "{name}");
        assert!(trusted || !["x-url-scheme", "remote-user", "gx-secret"].contains(&name), "{name}");
    }
    for name in ["x-forwarded-for", "x-real-ip", "x-forwarded-proto", "x-forwarded-port"] {
        assert_eq!(request.get_all(name).iter().count(), 1, "{name}");
    }
    let told = request["x-forwarded-for"].to_str().expect("text").split(", ").next();
    assert_eq!(told.and_then(|told| told.parse().ok()), Some(client.address));
}

/// Slow reference implementation: each entry is accepted while the one that wrote it is trusted.
fn believed(peer: PeerAddress, trust: &Trust, request: &HeaderMap) -> IpAddr {
    let is_near = |address: &IpAddr| trust.networks.iter().any(|network| network.contains(address));
    let (mut client, mut goes_on) = match peer {
        PeerAddress::Tcp(socket) => (socket.ip().to_canonical(), is_near(&socket.ip().to_canonical())),
        PeerAddress::Unix { uid } => (Ipv4Addr::LOCALHOST.into(), trust.all || trust.uids.contains(&uid)),
    };
    let fields = request.get_all("x-forwarded-for").iter();
    let fields: Vec<_> = fields.map(|field| field.to_str().unwrap_or("not an address")).collect();
    for word in fields.join(",").rsplit(',').map(str::trim) {
        let word = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(word);
        if word.is_empty() {
            continue;
        }
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
        let socket = || word.parse::<SocketAddr>().map(|socket| socket.ip());
        let Ok(address) = bare.parse::<IpAddr>().or_else(|_| socket()) else { break };
        if fields.is_empty() || !goes_on {
            break;
        }
        client = address.to_canonical();
        goes_on = is_near(&client);
    }
    client
}

/// Asserts that a request over HTTP/2 is the same as its text in HTTP/1.1, with nothing added.
pub fn http2_downgrade(bytes: &[u8]) {
    let Some((how, text)) = bytes.split_first() else { return };
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let Ok(method) = Method::from_bytes(line()) else { return };
    let Ok(uri) = Uri::try_from(line()) else { return };
    let mut parts = http::Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.version) = (method, uri, Version::HTTP_2);
    for line in lines {
        let at = line.iter().skip(1).position(|byte| *byte == b':').map_or(line.len(), |at| at + 1);
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default());
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        parts.headers.append(name, value);
    }
    if how & 2 > 0 {
        parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
    }
    let Ok(request) = downgrade(&parts, how & 1 > 0) else { return };
    same(&request, request.head.headers.bytes());
    let taken = &request.head.headers.map();
    assert_eq!(taken.get_all(header::HOST).iter().count(), 1);
    if let Some(authority) = parts.uri.authority() {
        assert_eq!(taken[header::HOST], authority.as_str());
    }
    assert!(!(taken.contains_key(header::CONTENT_LENGTH) && taken.contains_key(header::TRANSFER_ENCODING)));
    // Headers of the connection are set by the proxy; all others are forwarded unchanged.
    for name in taken.keys().filter(|name| !parts.headers.contains_key(*name)) {
        let ours =
            ["host", "content-length", "transfer-encoding", "connection", "upgrade", "sec-websocket-key"];
        assert!(ours.contains(&name.as_str()), "{name} has come from nowhere");
    }
    for name in parts.headers.keys().filter(|name| !["host", "cookie", "te"].contains(&name.as_str())) {
        if name == "sec-websocket-key" && how & 2 > 0 {
            continue;
        }
        let (sent, taken) = (parts.headers.get_all(name), taken.get_all(name));
        assert!(sent.iter().eq(taken.iter()), "{name}");
    }
}

/// Asserts that header blocks of HTTP/2 are the same however their bytes arrive, and that `h2` accepts their form.
pub fn http2_frames(bytes: &[u8]) {
    let Some((piece, mut rest)) = bytes.split_first() else { return };
    let mut frames = Vec::new();
    while let Some(([kind, flags, stream, high, low], tail)) = rest.split_first_chunk() {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(tail.len());
        frames.extend([0, (length >> 8) as u8, length as u8, kind % 11, *flags, 0, 0, 0, *stream]);
        frames.extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    let whole = rewritten(&frames, frames.len() + 24);
    assert_eq!(whole, rewritten(&frames, usize::from(*piece) + 1));
    let Ok(mut out) = whole.as_deref() else { return };
    while let Some(([0, high, low, kind, flags, .., stream], tail)) = out.split_first_chunk::<9>() {
        let (payload, more) = tail.split_at(usize::from(*high) << 8 | usize::from(*low));
        out = more;
        if *kind == 9 || (*kind == 1 && (flags & 4 == 0 || flags & 0x28 != 0 || stream % 2 == 0)) {
            // The connection is closed for it.
            return;
        }
        if *kind == 1 {
            plain_block(payload);
        }
    }
}

/// Asserts that every directive of an nginx.conf is accounted for, and that the result is TOML.
pub fn nginx_conf(bytes: &[u8]) {
    struct OneFile<'b>(&'b [u8]);
    impl convert::Files for OneFile<'_> {
        fn read(&self, path: &Path) -> io::Result<String> {
            match path.to_str() {
                Some("/nginx.conf") => Ok(String::from_utf8_lossy(self.0).into_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }

        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Ok(vec!["nginx.conf".into()])
        }
    }
    for convert in [convert::convert, convert::convert_apache] {
        let Ok(conversion) = convert(Path::new("/nginx.conf"), &OneFile(bytes)) else { continue };
        let summary = &conversion.summary;
        assert_eq!(summary.total(), summary.carried + summary.unnecessary + summary.reported.len());
        let parsed: Result<toml::Table, _> = conversion.toml.parse();
        assert!(parsed.is_ok(), "{}\n{:?}", conversion.toml, parsed.err());
    }
}

/// A block without references to others, with fields within the size limit.
fn plain_block(block: &[u8]) {
    let fields = fields(block).expect("it is whole and refers to nothing");
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert!(size < 64 << 10, "{size} bytes");
    let mut is_plain = false;
    for (name, value) in &fields {
        match name.strip_prefix(b":") {
            Some(_) => assert!(!is_plain, "a pseudo-header field follows others"),
            None => is_plain = true,
        }
        HeaderName::from_lowercase(name.strip_prefix(b":").unwrap_or(name)).expect("a name");
        HeaderValue::from_bytes(value).expect("a value");
    }
    let count = |wanted: &[u8]| fields.iter().filter(|(name, _)| name == wanted).count();
    for name in [":method", ":scheme", ":path", ":authority", "cookie", "bowshock-fault", "bowshock-target"] {
        assert!(count(name.as_bytes()) <= 1, "{name}");
    }
    assert_eq!(count(b"bowshock-fault"), count(b"bowshock-line"));
}

/// A machine whose every YAML file is the input.
struct Yaml<'a>(&'a str);

impl config::System for Yaml<'_> {
    fn exists(&self, path: &Path) -> io::Result<()> {
        if path.extension().is_some_and(|end| end == "xml") {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(())
        }
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        self.exists(path)
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.to_owned())
    }
}

/// Asserts that a site of any galaxy.yml is refused, or can be printed and read again, and that its downloads stay in
/// directories.
pub fn galaxy_yml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let site =
        "[[site]]\nhost = \"galaxy.example.org\"\ngalaxy = { config = \"/srv/galaxy/config/galaxy.yml\" }\n";
    match config::parse_on("bowshock.toml", site, &Yaml(text)) {
        Err(report) => assert!(report.errors() > 0 && !report.render(true).is_empty()),
        Ok(loaded) => {
            for route in
                loaded.config.sites.iter().flat_map(|site| &site.routes).filter(|route| route.internal)
            {
                let Action::Files(files) = &route.action else { panic!("{route:?}") };
                assert!(
                    !files.within.is_empty() && files.within.iter().all(|one| one != Path::new("/")),
                    "{route:?}"
                );
            }
            let printed = config::print(&loaded.config);
            let again = config::parse_on("bowshock.toml", &printed, &Yaml("")).expect("printed before");
            // The reasons for routes are comments.
            let lines = printed.lines().filter(|line| !line.starts_with('#'));
            assert_eq!(
                config::print(&again.config),
                lines.map(|line| format!("{line}\n")).collect::<String>()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// Replays the inputs that cargo-fuzz found to reach new code.
    fn replay(target: &str, call: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs = 0;
        for entry in fs::read_dir(corpus).unwrap() {
            call(&fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 100, "{inputs} inputs for {target}");
    }

    #[test]
    fn what_was_found_once_does_no_harm() {
        replay("path", path);
        replay("range", range);
        replay("archive_list", archive_list);
        replay("request_head", request_head);
        replay("proxy_header", proxy_header);
        replay("forwarded", forwarded);
        replay("http2_downgrade", http2_downgrade);
        replay("http2_frames", http2_frames);
        replay("nginx_conf", nginx_conf);
        replay("galaxy_yml", galaxy_yml);
    }

    fn any_galaxy_yml() -> impl Strategy<Value = String> {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/galaxy/samples");
        let files = fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path());
        let texts: Vec<String> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
        prop::sample::select(texts)
    }

    proptest! {
        #[test]
        fn no_template_does_harm(text in "(/|[{]{1,2}|[}]{1,2}|rest|name|header[.]|query[.]|response[.]|x|[?]|%2F|\\PC){0,12}") {
            template(text.as_bytes());
        }

        #[test]
        fn no_file_of_passwords_does_harm(text in "(anna|:|[$]2y[$]|[{]SHA[}]|#|\n|\r|\\PC){0,20}") {
            htpasswd(text.as_bytes());
        }

        #[test]
        fn no_damaged_galaxy_yml_does_harm(
            text in any_galaxy_yml(),
            at in any::<prop::sample::Index>(),
            cut in 0..30_usize,
            put in "\\PC{0,3}|[\"'\\[\\]{}:\n#&*!|>%@-]{0,4}|: /|: &a|: \\*a|<<: ",
        ) {
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            let end = (at + cut).min(chars.len());
            let (before, after) = (&chars[..at], &chars[end..]);
            let text: String = before.iter().copied().chain(put.chars()).chain(after.iter().copied()).collect();
            galaxy_yml(text.as_bytes());
        }
    }
}
