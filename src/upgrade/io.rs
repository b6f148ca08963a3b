//! What the engine asks of a transport besides bytes.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::AsyncWriteExt;

use crate::listen::Transport;

#[async_trait]
impl Shutdown for Transport {
    async fn shutdown(&mut self) {
        if let Err(error) = self.flush().await {
            tracing::debug!(peer = %self.peer, %error, "the client did not take the end of its answer");
        }
    }
}

impl UniqueID for Transport {
    /// Nothing of the engine looks a connection up by it.
    fn id(&self) -> UniqueIDType {
        -1
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
