//! How users of a route are told: `auth`.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use http::{HeaderName, HeaderValue};

use crate::{
    auth::Htpasswd,
    config::{Auth, AuthMethod, Template},
    upstream::{Upstream, Upstreams},
};

/// Check of the users of a route.
pub(crate) struct RouteAuth {
    /// Name in metrics.
    pub(crate) name: String,
    /// Whether upstream servers are told the user.
    pub(crate) remote_user: bool,
    /// How the user is told.
    pub(crate) by: Authenticator,
}

/// How the user of a request is told.
pub(crate) enum Authenticator {
    /// By a password.
    Password { users: Arc<Htpasswd>, realm: HeaderValue },
    /// By a service.
    Service(AuthService),
}

/// Service that is asked about each request.
pub(crate) struct AuthService {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) path: String,
    /// Headers of its response that upstream servers get.
    pub(crate) copy: Vec<HeaderName>,
    /// URL to which browsers are redirected to log in.
    pub(crate) sign_in: Option<Template>,
}

/// Checks of users by their settings, and files of users by path: each exists once.
#[derive(Default)]
pub(super) struct Auths {
    made: HashMap<*const Auth, Arc<RouteAuth>>,
    files: HashMap<PathBuf, Arc<Htpasswd>>,
}

impl Auths {
    /// The check for these settings; `None` where its upstream is gone.
    pub(super) fn find(&mut self, auth: &Arc<Auth>, upstreams: &Upstreams) -> Option<Arc<RouteAuth>> {
        if let Some(made) = self.made.get(&Arc::as_ptr(auth)) {
            return Some(Arc::clone(made));
        }
        let by = match &auth.method {
            AuthMethod::Htpasswd { file, users, realm } => {
                let open = || Htpasswd::new(file.clone(), Arc::clone(users));
                let users = Arc::clone(self.files.entry(file.clone()).or_insert_with(open));
                Authenticator::Password { users, realm: realm.clone() }
            }
            AuthMethod::Request { upstream, path, copy, sign_in } => Authenticator::Service(AuthService {
                upstream: upstreams.find(upstream)?,
                path: path.clone(),
                copy: copy.clone(),
                sign_in: sign_in.clone(),
            }),
        };
        let name = auth.name.clone().unwrap_or_else(|| "-".into());
        let made = Arc::new(RouteAuth { name, remote_user: auth.remote_user, by });
        self.made.insert(Arc::as_ptr(auth), Arc::clone(&made));
        Some(made)
    }
}
