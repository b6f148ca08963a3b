//! Client identity: address, scheme, host and port, from the connection and, where the listener trusts its peer, from
//! forwarded headers.

mod forwarded;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, header};
use ipnet::IpNet;

use crate::{
    config::Trust,
    listen::{Peer, PeerAddress, includes},
    message::{EditHeaders, RawHeaders, starts_with, text, write_number},
};
use forwarded::ForwardedClaims;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Headers that identify the client to an application; kept only from a trusted peer. All `X-Forwarded-*` headers
/// belong to them too, and those with the scheme.
const IDENTITY_HEADERS: [&[u8]; 3] = [b"x-real-ip", b"remote-user", b"gx-secret"];

/// `Proxy` has no meaning in HTTP, but CGI passes it on as `HTTP_PROXY`, the variable by which many libraries choose
/// a proxy for their own requests ("httpoxy", CVE-2016-5385).
const PROXY: &[u8] = b"proxy";

/// Client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The client's address, as far as it can be trusted.
    pub address: IpAddr,
    /// Proxies between the client and this one, the nearest last; all trusted.
    via: Vec<IpAddr>,
    /// Whether the peer's forwarded headers are trusted.
    trusted: bool,
    /// Whether the client used TLS.
    pub https: bool,
    /// The host of the client's request, as forwarded by a trusted peer.
    host: Option<HeaderValue>,
    /// The port that the client connected to, here or at the first trusted proxy.
    port: u16,
    /// Whether a trusted peer forwarded contradictory schemes.
    is_contradicted: bool,
}

/// Properties of a connection that do not depend on forwarded headers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ConnectionInfo {
    /// Whether the connection uses TLS.
    pub(crate) https: bool,
    /// The port that the client connected to, from a PROXY header.
    pub(crate) port: Option<u16>,
}

impl Client {
    /// Identifies the client by the peer and the head of its request.
    pub(crate) fn identify(peer: &Peer, request: &RawHeaders) -> Self {
        let connection = ConnectionInfo { https: peer.tls.is_some(), port: peer.announced_port };
        Self::from_parts(peer.address, &peer.listener.settings().trust, connection, request)
    }

    /// A client with an address and defaults otherwise.
    #[cfg(test)]
    pub(crate) fn at(address: IpAddr) -> Self {
        let peer = PeerAddress::Tcp((address, 0).into());
        Self::from_parts(peer, &Trust::default(), ConnectionInfo::default(), &RawHeaders::default())
    }

    pub(crate) fn from_parts(
        peer: PeerAddress,
        trust: &Trust,
        connection: ConnectionInfo,
        request: &RawHeaders,
    ) -> Self {
        let trusted = peer.is_trusted(trust);
        let (address, via, claims) = if trusted {
            let elements = forwarded::elements(request);
            let (address, via) = through(peer, &trust.networks, request, &elements);
            // The peer itself is a proxy on the way, whatever headers it forwards.
            let hops = match peer {
                PeerAddress::Tcp(_) => via.len().max(1),
                PeerAddress::Unix { .. } => via.len() + 1,
            };
            (address, via, ForwardedClaims::read(request, &elements, hops))
        } else {
            let address = peer.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            (address, Vec::new(), ForwardedClaims::default())
        };
        let https = claims.https.unwrap_or(connection.https);
        let of_host = || request.text(header::HOST).and_then(forwarded::port_of);
        let port = claims.port(https).or(connection.port).or_else(of_host);
        Self {
            address,
            via,
            trusted,
            https,
            port: port.unwrap_or_else(|| forwarded::usual_port(https)),
            is_contradicted: claims.is_contradicted,
            host: claims.host.and_then(|host| HeaderValue::try_from(host).ok()),
        }
    }

    /// Sets the headers that identify the client in the request to the upstream, in place of any others with that
    /// meaning.
    ///
    /// Names with characters other than letters, digits and hyphens are always removed, as in nginx: CGI and WSGI
    /// turn those characters into `_`, so that `X_Forwarded_For`, `x.forwarded.for` and `content!length` would become
    /// names with a meaning.
    pub(crate) fn forward(&self, request: &mut impl EditHeaders) {
        request.remove_if(|name| self.is_stripped(name));
        // The client first, then the proxies on the way.
        request.write(X_FORWARDED_FOR, |out| {
            write_address(out, self.address);
            for proxy in &self.via {
                out.extend_from_slice(b", ");
                write_address(out, *proxy);
            }
        });
        request.write(X_REAL_IP, |out| write_address(out, self.address));
        request.set(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme()));
        if let Some(host) = &self.host {
            request.set(X_FORWARDED_HOST, host.clone());
        } else if let Some(host) = request.get(&header::HOST).map(<[u8]>::to_vec) {
            request.write(X_FORWARDED_HOST, |out| out.extend_from_slice(&host));
        }
        request.write(X_FORWARDED_PORT, |out| write_number(out, self.port.into()));
    }

    /// Whether the peer's forwarded headers are trusted.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The port that the client connected to, here or at the first trusted proxy.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn is_stripped(&self, name: &[u8]) -> bool {
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            return true;
        }
        // Quick test: most names begin with another letter.
        if !matches!(name, [b'f' | b'F' | b'g' | b'G' | b'p' | b'P' | b'r' | b'R' | b'x' | b'X', ..]) {
            return false;
        }
        if name.eq_ignore_ascii_case(b"forwarded") || name.eq_ignore_ascii_case(PROXY) {
            return true;
        }
        let is_one_of = |names: &[HeaderName]| {
            names.iter().any(|other| name.eq_ignore_ascii_case(other.as_str().as_bytes()))
        };
        if self.trusted {
            // A trusted peer may name its users (`REMOTE_USER` from its login); the client's address is always set
            // here.
            return self.is_contradicted && is_one_of(&forwarded::SYNONYMS);
        }
        starts_with(name, b"x-forwarded-")
            || is_one_of(&forwarded::SYNONYMS)
            || IDENTITY_HEADERS.iter().any(|other| name.eq_ignore_ascii_case(other))
    }
}

/// Avoids `fmt` for IPv4, at a tenth of its cost: an address is written for every request, and is nearly always IPv4.
fn write_address(out: &mut BytesMut, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        // Fails only without memory.
        let _ = fmt::Write::write_fmt(out, format_args!("{address}"));
        return;
    };
    let (mut text, mut length) = ([0; 16], 0);
    let mut put = |byte| {
        text[length] = byte;
        length += 1;
    };
    for part in address.octets() {
        if part >= 100 {
            put(b'0' + part / 100);
        }
        if part >= 10 {
            put(b'0' + part / 10 % 10);
        }
        put(b'0' + part % 10);
        put(b'.');
    }
    out.extend_from_slice(&text[..length - 1]);
}

/// The addresses of all `X-Forwarded-For` headers, the nearest last. Reading from the right stops at the first entry
/// that is not an address.
fn chain(request: &RawHeaders) -> Vec<IpAddr> {
    let name = X_FORWARDED_FOR;
    let lists: Vec<&str> = request.values(&name).map(|value| text(value).unwrap_or("?")).collect();
    let entries = lists.iter().rev().flat_map(|list| forwarded::entries(list).rev()).map(address);
    let mut chain: Vec<IpAddr> = entries.map_while(|address| address).collect();
    chain.reverse();
    chain
}

/// Reads `192.0.2.1`, `2001:db8::1`, and both with a port, as some proxies write them.
fn address(entry: &str) -> Option<IpAddr> {
    let bracketed = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bracketed.unwrap_or(entry).parse().ok();
    address
        .or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
        .map(|address| address.to_canonical())
}

/// The address of a peer whose forwarded headers are not trusted; `None` for a trusted peer, because its request
/// would have to be read first.
pub(crate) fn untrusted_peer_address(peer: &Peer) -> Option<IpAddr> {
    peer.address.ip().filter(|_| !peer.address.is_trusted(&peer.listener.settings().trust))
}

/// The client, and the trusted proxies on the way, by `X-Forwarded-For` or else by `Forwarded`.
fn through(
    peer: PeerAddress,
    networks: &[IpNet],
    request: &RawHeaders,
    elements: &[forwarded::Element],
) -> (IpAddr, Vec<IpAddr>) {
    let by_forwarded = || {
        let known = elements.iter().rev().map_while(|element| element.address);
        let mut chain: Vec<IpAddr> = known.collect();
        chain.reverse();
        walk(peer, chain, networks)
    };
    if !request.has(X_FORWARDED_FOR) {
        return by_forwarded();
    }
    let found = walk(peer, chain(request), networks);
    if !elements.is_empty() && by_forwarded().0 != found.0 {
        forwarded::warn_disagreement();
    }
    found
}

/// Walks the chain from the right past trusted proxies: the first address that is not trusted is the client.
///
/// Peers trusted by their socket (`all`, uids) vouch for the nearest entry only. Entries further left are trusted
/// when the entry to their right is in a trusted network.
fn walk(peer: PeerAddress, mut route: Vec<IpAddr>, networks: &[IpNet]) -> (IpAddr, Vec<IpAddr>) {
    route.extend(peer.ip());
    let client = route.iter().rposition(|address| !includes(networks, *address)).unwrap_or(0);
    let via = route.split_off((client + 1).min(route.len()));
    (route.get(client).copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), via)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const UNIX: PeerAddress = PeerAddress::Unix { uid: 1000 };

    fn tcp(address: &str) -> PeerAddress {
        PeerAddress::Tcp(format!("{address}:4000").parse().unwrap())
    }

    fn networks(networks: &[&str]) -> Trust {
        Trust {
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..Trust::default()
        }
    }

    fn request(fields: &[(&str, &str)]) -> HeaderMap {
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        request
    }

    /// Headers of a trusted peer's request, as forwarded to the upstream.
    fn forward(request: &mut HeaderMap) {
        let lines = RawHeaders::from(&*request);
        Client::from_parts(tcp("10.0.0.1"), &networks(&["10.0.0.0/8"]), ConnectionInfo::default(), &lines)
            .forward(request);
    }

    /// `X-Forwarded-For` as forwarded to the upstream.
    fn forwarded(peer: PeerAddress, trust: &Trust, chain: &[&str]) -> String {
        let fields: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
        let mut request = request(&fields);
        Client::from_parts(peer, trust, ConnectionInfo::default(), &RawHeaders::from(&request))
            .forward(&mut request);
        request[X_FORWARDED_FOR].to_str().unwrap().to_owned()
    }

    #[test]
    fn nobody_is_believed_who_is_not_named() {
        assert_eq!(forwarded(tcp("192.0.2.1"), &Trust::default(), &["10.0.0.1"]), "192.0.2.1");
        assert_eq!(forwarded(UNIX, &Trust::default(), &["10.0.0.1"]), "127.0.0.1");
        assert_eq!(forwarded(tcp("192.0.2.1"), &networks(&["10.0.0.0/8"]), &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn the_chain_is_walked_from_the_right_past_trusted_proxies() {
        let trust = networks(&["10.0.0.0/8"]);
        let walked = |chain: &[&str]| forwarded(tcp("10.0.0.9"), &trust, chain);
        assert_eq!(walked(&["192.0.2.1"]), "192.0.2.1, 10.0.0.9");
        assert_eq!(walked(&["6.6.6.6, 192.0.2.1, 10.0.0.8"]), "192.0.2.1, 10.0.0.8, 10.0.0.9");
        assert_eq!(walked(&["6.6.6.6", "192.0.2.1"]), "192.0.2.1, 10.0.0.9");
        assert_eq!(walked(&[]), "10.0.0.9");
        assert_eq!(walked(&["10.0.0.7"]), "10.0.0.7, 10.0.0.9");
        assert_eq!(walked(&["192.0.2.1, nonsense, 10.0.0.8"]), "10.0.0.8, 10.0.0.9");
        assert_eq!(walked(&["192.0.2.1:555, [2001:db8::1]"]), "2001:db8::1, 10.0.0.9");
        assert_eq!(walked(&["6.6.6.6, \"192.0.2.1\", ", ""]), "192.0.2.1, 10.0.0.9");
    }

    #[test]
    fn a_trusted_unix_peer_vouches_for_the_nearest_entry() {
        let all = Trust { all: true, ..Trust::default() };
        assert_eq!(forwarded(UNIX, &all, &["6.6.6.6, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(forwarded(UNIX, &all, &[]), "127.0.0.1");
        let uids = |uids: &[u32]| Trust { uids: uids.into(), ..networks(&["10.0.0.0/8"]) };
        assert_eq!(forwarded(UNIX, &uids(&[1000]), &["192.0.2.1, 10.0.0.1"]), "192.0.2.1, 10.0.0.1");
        assert_eq!(forwarded(UNIX, &uids(&[1001]), &["192.0.2.1"]), "127.0.0.1");
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_itself() {
        assert_eq!(forwarded(tcp("[::ffff:192.0.2.1]"), &Trust::default(), &[]), "192.0.2.1");
        assert_eq!(
            forwarded(tcp("[::ffff:10.0.0.1]"), &networks(&["10.0.0.0/8"]), &["192.0.2.1"]),
            "192.0.2.1, 10.0.0.1"
        );
    }

    #[test]
    fn no_spelling_of_a_forwarded_field_passes() {
        let fields = [
            ("Host", "galaxy"),
            ("X_Forwarded_For", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Anything", "evil"),
            ("X-Real-IP", "6.6.6.6"),
            ("Forwarded", "for=6.6.6.6"),
            ("X-Url-Scheme", "https"),
            ("REMOTE_USER", "admin"),
            ("Remote-User", "admin"),
            ("GX_SECRET", "x"),
            ("gx-secret", "x"),
            ("Proxy", "http://evil"),
            ("x.forwarded.for", "6.6.6.6"),
            ("X!Real~IP", "6.6.6.6"),
            ("content.length", "5"),
            ("transfer'encoding", "chunked"),
            ("Front-End-Https", "on"),
            ("Accept", "*/*"),
        ];
        let mut request = request(&fields);
        let connection = ConnectionInfo { https: false, port: Some(8080) };
        Client::from_parts(tcp("192.0.2.1"), &Trust::default(), connection, &RawHeaders::from(&request))
            .forward(&mut request);
        let mut left: Vec<_> =
            request.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "accept: */*",
                "host: galaxy",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: galaxy",
                "x-forwarded-port: 8080",
                "x-forwarded-proto: http",
                "x-real-ip: 192.0.2.1",
            ]
        );
    }

    #[test]
    fn a_trusted_peer_speaks_for_its_users() {
        let fields = [
            ("host", "inner"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "galaxy.example.org"),
            ("x-forwarded-port", "443"),
            ("remote-user", "alice"),
        ];
        let mut request = request(&fields);
        forward(&mut request);
        for (name, value) in &fields {
            assert_eq!(request[*name], value);
        }
    }

    #[test]
    fn scheme_host_and_port_are_told_by_one_hop() {
        let told = |fields: &[(&str, &str)]| {
            let mut request = request(fields);
            forward(&mut request);
            let value = |name: HeaderName| request[name].to_str().unwrap().to_owned();
            assert!(!request.contains_key(header::FORWARDED));
            [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT].map(value)
        };
        let (host, https) = (("host", "galaxy.example.org"), ("x-forwarded-proto", "https"));
        assert_eq!(told(&[host, https]), ["10.0.0.1", "https", "galaxy.example.org", "443"]);
        assert_eq!(told(&[("host", "h:8443"), https]), ["10.0.0.1", "https", "h:8443", "8443"]);
        assert_eq!(
            told(&[("host", "h:8443"), https, ("x-forwarded-host", "a")]),
            ["10.0.0.1", "https", "a", "443"]
        );
        let forwarded = ("forwarded", "for=203.0.113.7;proto=https;host=h");
        assert_eq!(told(&[host, forwarded]), ["203.0.113.7, 10.0.0.1", "https", "h", "443"]);
        let chain = ("forwarded", "for=6.6.6.6;host=evil, for=203.0.113.7;proto=https;host=h, for=10.0.0.2");
        assert_eq!(told(&[host, chain]), ["203.0.113.7, 10.0.0.2, 10.0.0.1", "https", "h", "443"]);
        let both = [host, forwarded, ("x-forwarded-for", "203.0.113.8"), ("x-forwarded-proto", "http")];
        assert_eq!(told(&both), ["203.0.113.8, 10.0.0.1", "http", "h", "80"]);
        assert_eq!(
            told(&[host, ("forwarded", "for=203.0.113.7, for=unknown;proto=https")]),
            ["10.0.0.1", "https", "galaxy.example.org", "443"]
        );
    }

    #[test]
    fn synonyms_that_contradict_do_not_pass() {
        let passed = |scheme: &str| {
            let mut request = request(&[("x-forwarded-proto", "https"), ("x-url-scheme", scheme)]);
            forward(&mut request);
            request.contains_key("x-url-scheme")
        };
        assert!(passed("https") && !passed("http") && !passed("nonsense"));
    }
}
