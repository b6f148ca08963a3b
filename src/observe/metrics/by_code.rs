//! Counters by method and status code.

use std::fmt;

use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use prometheus::IntCounter;

/// Looks up a counter by method and status code.
type LookUp = Box<dyn Fn(&str, &str) -> IntCounter + Send + Sync>;

/// Counters of one name by method and status code. Few combinations occur, so each is looked up by its labels once and
/// kept.
pub(super) struct ByCode {
    look_up: LookUp,
    known: ArcSwap<Vec<(&'static str, StatusCode, IntCounter)>>,
}

impl ByCode {
    pub(super) fn new(look_up: impl Fn(&str, &str) -> IntCounter + Send + Sync + 'static) -> Self {
        Self { look_up: Box::new(look_up), known: ArcSwap::default() }
    }

    pub(super) fn inc(&self, method: &'static str, code: StatusCode) {
        // Method labels are constants, so equal ones have the same address.
        let matches = |(its_method, its_code, _): &&(&str, StatusCode, IntCounter)| {
            *its_code == code && std::ptr::eq(*its_method, method)
        };
        if let Some((.., counter)) = self.known.load().iter().find(matches) {
            return counter.inc();
        }
        let counter = (self.look_up)(method, code.as_str());
        counter.inc();
        self.known
            .rcu(|known| known.iter().cloned().chain([(method, code, counter.clone())]).collect::<Vec<_>>());
    }
}

impl fmt::Debug for ByCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.load().iter()).finish()
    }
}

/// Label of a method: its name for methods of RFC 9110 and PATCH, else `other`, because clients invent methods and the
/// number of series must stay bounded.
pub(super) fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 7] = [
        (Method::GET, "GET"),
        (Method::HEAD, "HEAD"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::PATCH, "PATCH"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("other", |(_, label)| label)
}
