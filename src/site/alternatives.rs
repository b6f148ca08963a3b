//! Routes for the same paths, told apart by `when`.

use std::sync::Arc;

use http::{Method, header};

use super::Route;
use crate::{
    client::Client,
    config::When,
    message::{RequestHead, cookies, parameters},
};

/// Routes of one key, in the order of the file.
pub struct Alternatives(pub(super) Vec<Arc<Route>>);

impl Alternatives {
    /// The first route whose `when` holds for a request.
    pub(crate) fn select(&self, request: &RequestHead, client: Option<&Client>) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| {
            route.settings.when.as_ref().is_none_or(|when| {
                holds(when, request, client) && route.exists.as_ref().is_none_or(|flag| flag.exists())
            })
        })
    }

    /// The first route without `when`.
    pub fn unconditional(&self) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| route.settings.when.is_none())
    }

    /// All routes.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.iter()
    }
}

fn holds(when: &When, request: &RequestHead, client: Option<&Client>) -> bool {
    let headers = &request.headers;
    let query = request.target.query().unwrap_or_default();
    let is_method = |methods: &Vec<Method>| {
        let implied = if request.method == Method::HEAD { &Method::GET } else { &request.method };
        methods.contains(&request.method) || methods.contains(implied)
    };
    when.methods.as_ref().is_none_or(is_method)
        && when.headers.iter().all(|(name, test)| test.holds(headers.values(name)))
        && when.cookies.iter().all(|(name, test)| test.holds(cookies(headers, name)))
        && when.query.iter().all(|(name, test)| {
            let values: Vec<_> = parameters(query, name).collect();
            test.holds(values.iter().map(|value| &**value))
        })
        && when
            .networks
            .as_ref()
            .is_none_or(|networks| client.is_some_and(|client| networks.contains(client.address)))
        && when
            .user_agents
            .as_ref()
            .is_none_or(|patterns| patterns.holds(headers.values(&header::USER_AGENT)))
}
