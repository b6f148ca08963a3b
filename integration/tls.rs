//! TLS: who is shown which certificate, who is believed, and what becomes of both in time.

mod certificates;
mod clients;
mod handshakes;
mod sites;
mod upstreams;

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::fixtures::{Authority, Identity, Proxy, Scratch, Target, Tls};

/// Where TLS is spoken.
const ADDRESS: &str = "127.0.0.2:0";

/// Two listeners, the second for TLS, and these lines.
fn listening(text: &str) -> String {
    format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"{ADDRESS}\"\ntls = true\n{text}\n"
    )
}

/// A site with a certificate, and more lines, which says its name.
fn site(host: &str, tls: &str, more: &str) -> String {
    let host_line = if host.is_empty() { String::new() } else { format!("host = {host:?}\n") };
    format!(
        "[[site]]\n{host_line}tls = {{ {tls} }}\n{more}\nroutes = {{ \"/\" = {{ answer = 200, body = \"{host}\" }} }}\n"
    )
}

/// The certificate that a client is shown.
async fn shown(target: &Target, tls: &Tls) -> CertificateDer<'static> {
    let stream = tls.connect(target.address()).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

/// One site with one certificate of one authority.
struct Simple {
    authority: Authority,
    identity: Identity,
    scratch: Scratch,
    proxy: Proxy,
}

async fn simple(more: &str, server: &str) -> Simple {
    let (authority, scratch) = (Authority::new("authority"), Scratch::new());
    let identity = authority.server_for(&["localhost"], Duration::from_secs(100 * 24 * 3600));
    let tls = identity.write(&scratch, "localhost");
    let proxy = Proxy::toml(&listening(&site("localhost", &tls, more))).server(server).start().await;
    Simple { authority, identity, scratch, proxy }
}

impl Simple {
    fn target(&self) -> Target {
        self.proxy.listener(ADDRESS).under(Tls::asking("localhost", &self.authority))
    }
}
