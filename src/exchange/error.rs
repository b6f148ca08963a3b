//! Why a request gets no response from a server, or not all of one.

use crate::{exchange::record::Sent, response::Explanation};

/// The end of an attempt that did not bring the client a whole response.
#[derive(Debug)]
pub(crate) enum Error {
    /// The client left: nobody is told anything.
    ClientLeft,
    /// The request is refused with this explanation: a fault of the client (4xx), of the servers (502, 503, 504) or of the
    /// proxy (500, 507).
    Refused(Explanation),
    /// The server failed before the client saw anything of a response, and another attempt is safe.
    Retry,
    /// The response has begun and cannot be finished. The connection ends, so that the part is not taken for the whole.
    Incomplete(Sent),
}
