//! What the engine asks of a transport besides bytes.

use std::{os::fd::AsRawFd, sync::Arc};

use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::AsyncWriteExt;

use super::{Transport, connection};

#[async_trait]
impl Shutdown for Transport {
    async fn shutdown(&mut self) {
        if let Err(error) = self.flush().await {
            tracing::debug!(peer = %self.peer, %error, "the client did not take the end of its answer");
        }
    }
}

impl UniqueID for Transport {
    fn id(&self) -> UniqueIDType {
        use std::os::fd::AsFd;
        let raw = self.socket().ok().and_then(|socket| socket.raw());
        raw.map_or(-1, |raw| raw.as_fd().as_raw_fd())
    }
}

impl Ssl for Transport {}

impl Peek for Transport {}

// The engine copies these into every request; who the peer is we tell it ourselves, through the transport.

impl GetTimingDigest for Transport {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Transport {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Transport {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.ends_well();
        self.say_goodbye();
        if self.must_linger() {
            let place = self.place.take();
            if let Ok(socket) = self.socket() {
                connection::linger(socket, place);
            }
        }
    }
}
