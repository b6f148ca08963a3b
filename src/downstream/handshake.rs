//! The start of a connection before its first request: a PROXY header, the TLS handshake.

use std::{future::poll_fn, io, sync::Arc};

use tokio::time::timeout;

use crate::{
    downstream::proxy_header,
    listen::{AddressCounts, ConnectionGuard, ConnectionSettings, Listener, Peer, PeerAddress},
    net::{RawSocket, Socket},
    response, tls,
};

/// The first byte of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A connection that requests may come on.
pub(crate) struct EstablishedConnection {
    pub(crate) socket: Socket,
    pub(crate) peer: Peer,
    /// HTTP/2 is spoken on it.
    pub(crate) is_h2: bool,
}

/// Whether something comes before the first request.
pub(crate) fn is_needed(listener: &Listener) -> bool {
    let settings = listener.settings();
    settings.proxy_protocol || settings.tls.is_some()
}

/// Takes what comes before the first request, within the time that a head may take.
///
/// # Errors
///
/// What the client has done wrong.
pub(crate) async fn establish(
    mut raw: RawSocket,
    mut address: PeerAddress,
    place: &mut ConnectionGuard,
    limits: &ConnectionSettings,
    addresses: &Arc<AddressCounts>,
) -> io::Result<EstablishedConnection> {
    let listener = &Arc::clone(place.listener());
    let settings = listener.settings();
    let within = limits.client_header_timeout;
    let mut announced_port = None;
    if settings.proxy_protocol {
        if !address.is_trusted(&settings.trust) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is not trusted to speak for others",
            ));
        }
        let announced = timeout(within, proxy_header::read(&mut raw)).await;
        let announced = announced.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if let (Some(announced), Some(most)) = (announced, limits.per_address)
            && !place.count(addresses, announced.client.ip(), most)
        {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "its address has too many connections"));
        }
        announced_port = announced.and_then(|announced| announced.port);
        address = announced.map_or(address, |announced| PeerAddress::Tcp(announced.client));
    }
    let Some(certificates) = listener.certificates().filter(|_| settings.tls.is_some()) else {
        let peer = Peer { listener: Arc::clone(listener), address, announced_port, tls: None };
        return Ok(EstablishedConnection { socket: Socket::Plain(raw), peer, is_h2: false });
    };
    let mut first = [0];
    let came = timeout(within, poll_fn(|cx| raw.poll_peek(cx, &mut first))).await;
    match came.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
        _ if first[0] != HANDSHAKE => return Err(refuse_plain(&raw)),
        _ => {}
    }
    let secured = {
        let (names, challenges) = (certificates.names(), certificates.challenges());
        tls::accept(raw, &names, challenges, &listener.configured, within).await?
    };
    let peer = Peer { listener: Arc::clone(listener), address, announced_port, tls: Some(secured.facts) };
    Ok(EstablishedConnection { socket: secured.socket, peer, is_h2: secured.is_h2 })
}

/// Tells a client that speaks without TLS what to do, as far as it takes that at once.
fn refuse_plain(raw: &RawSocket) -> io::Error {
    let sentence = "This port speaks HTTPS. Write https:// in place of http://.";
    let (response, _) = response::error_bytes(http::StatusCode::BAD_REQUEST, sentence);
    // What it has sent is read, or the end would be a reset and cost it the response.
    let _ = rustix::net::recv(raw, &mut [0; 4096][..], rustix::net::RecvFlags::DONTWAIT);
    let _ = rustix::net::send(
        raw,
        &response,
        rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT,
    );
    io::Error::new(io::ErrorKind::InvalidData, "it speaks no TLS")
}
