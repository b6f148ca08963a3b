//! Errors of HTTP/2 as those of a socket.

use std::io;

use h2::Reason;

/// What an error of a stream tells beyond that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    /// The server has not processed the request (RFC 9113 §8.7): it refused the stream, or takes no more of them.
    #[error("the server has not processed the request")]
    Unprocessed,
    /// The response is not one of HTTP/2 (RFC 9113 §8.1.1).
    #[error("the response is not HTTP/2")]
    Malformed,
}

impl StreamError {
    /// What `error` tells, if it is one of a stream.
    pub(crate) fn told_by(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, error)
    }
}

/// The error of a stream as one of a socket.
pub(super) fn of(error: h2::Error) -> io::Error {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // Streams that the server may have processed end with the connection, not with GOAWAY.
    if error.is_remote() && (is_refused || error.is_go_away()) {
        return StreamError::Unprocessed.into();
    }
    if error.is_library() {
        return StreamError::Malformed.into();
    }
    match error.into_io() {
        Some(error) => error,
        None => io::ErrorKind::ConnectionReset.into(),
    }
}

/// The error of a connection that has not begun.
pub(super) fn of_handshake(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        false => {
            io::Error::new(io::ErrorKind::Unsupported, format!("the server does not speak HTTP/2: {error}"))
        }
    }
}
