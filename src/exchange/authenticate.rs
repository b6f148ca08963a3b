//! `auth` of a route: whether the user of a request may pass.

use std::{fmt::Arguments, net::IpAddr};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    auth::{Credentials, Verdict, Verifier},
    config::{Satisfy, Users},
    exchange::{RequestContext, failure::no_server, resolve::host, values::Values},
    message::{EditHeaders, HeaderEdits, RequestHead, starts_with},
    observe::Rarely,
    response::{Explanation, Response, prefers_html},
    site::{AuthService, Authenticator, Route},
    state::State,
    upstream::{self, SubrequestFailed, ask},
};

/// Admits the user of a request, or gives the response to a request that may not pass.
pub(super) async fn authenticate(
    state: &State,
    route: &Route,
    request: &RequestHead,
    context: &mut RequestContext,
) -> Result<(), Response> {
    let Some(auth) = &route.auth else { return Ok(()) };
    let Some(client) = &context.client else { return Ok(()) };
    if route.settings.satisfy == Satisfy::Any && route.settings.access.permits(client.address) {
        return Ok(());
    }
    let result = match &auth.by {
        Authenticator::Password { users, realm } => {
            let users = users.users().await;
            by_password(&users, realm, client.address, request).await
        }
        Authenticator::Service(service) => Box::pin(service.admit(request, context)).await,
    };
    let (word, result) = match result {
        Ok(admitted) => {
            context.user = admitted.user;
            context.auth_request = admitted.request;
            context.auth_response = admitted.response;
            ("admitted", Ok(()))
        }
        Err((Refusal::Refused, response)) => ("refused", Err(response)),
        Err((Refusal::Failed, response)) => ("failed", Err(response)),
    };
    state.metrics.auth_request(&auth.name, word);
    result
}

/// Kind of refusal, for the metrics.
enum Refusal {
    /// The user is unknown, or may not pass.
    Refused,
    /// The service or the verifier could not say.
    Failed,
}

/// User who may pass.
#[derive(Default)]
struct Admitted {
    user: Option<Box<str>>,
    /// Headers for upstream servers; `None` removes what the client sent.
    request: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Headers for the client.
    response: Vec<(HeaderName, HeaderValue)>,
}

async fn by_password(
    users: &Users,
    realm: &HeaderValue,
    client: IpAddr,
    request: &RequestHead,
) -> Result<Admitted, (Refusal, Response)> {
    let challenge = || {
        let sentence = "A user name and a password are required here.";
        let mut response = Explanation::new(StatusCode::UNAUTHORIZED, sentence).answer(&request.headers);
        let realm = realm.to_str().unwrap_or_default();
        if let Ok(value) = HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")) {
            response.headers.insert(header::WWW_AUTHENTICATE, value);
        }
        (Refusal::Refused, response)
    };
    let sent = request.headers.get(header::AUTHORIZATION).and_then(Credentials::read);
    let credentials = sent.ok_or_else(challenge)?;
    let hash = users.get(&credentials.user).map(String::as_str);
    let other = users.values().next().map(String::as_str).unwrap_or_default();
    match Verifier::of_process().verify(&credentials, hash, other, client).await {
        Verdict::Right => Ok(Admitted { user: Some(credentials.user.into()), ..Admitted::default() }),
        Verdict::Wrong => Err(challenge()),
        Verdict::Busy => {
            let sentence = "Too many passwords are being checked at the moment. Please try again soon.";
            let busy = Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(5);
            Err((Refusal::Failed, busy.answer(&request.headers)))
        }
    }
}

impl AuthService {
    /// Asks the service about a request.
    async fn admit(
        &self,
        request: &RequestHead,
        context: &RequestContext,
    ) -> Result<Admitted, (Refusal, Response)> {
        let question = self.question(request, context);
        let (head, fields) = match ask(&self.upstream, &question).await {
            Ok(answer) => answer,
            Err(SubrequestFailed::NoServer(none)) => {
                let explanation = no_server(&self.upstream, none);
                return Err((Refusal::Failed, explanation.answer(&request.headers)));
            }
            Err(SubrequestFailed::NoResponse(error)) => {
                self.tell(format_args!("does not respond: {error}"));
                return Err((Refusal::Failed, unknown().answer(&request.headers)));
            }
        };
        match head.status {
            status if status.is_success() => Ok(self.admitted(&fields)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err((Refusal::Refused, self.refused(head.status, &fields, request, context)))
            }
            status => {
                self.tell(format_args!("responds with status {}", status.as_u16()));
                Err((Refusal::Failed, unknown().answer(&request.headers)))
            }
        }
    }

    /// Head of the request to the service: the client's, without what is about its body.
    fn question(&self, request: &RequestHead, context: &RequestContext) -> BytesMut {
        let mut fields = HeaderEdits::new(&request.headers);
        for name in [header::CONTENT_LENGTH, header::EXPECT, header::RANGE, header::IF_RANGE] {
            fields.remove(&name);
        }
        fields.remove_if(|name| starts_with(name, b"x-original-"));
        if let Some(client) = &context.client {
            upstream::prepare(&mut fields, request, client, &context.id, &self.upstream.name);
            let uri = request.target.quoted();
            let uri = if uri.starts_with('/') { uri.into_owned() } else { format!("/{uri}") };
            let url = format!("{}://{}{uri}", client.scheme(), host(request));
            let method = request.method.as_str();
            for (name, value) in [
                ("x-original-uri", &*uri),
                ("x-original-url", &*url),
                ("x-original-method", method),
                ("x-forwarded-uri", &*uri),
                ("x-forwarded-method", method),
            ] {
                if let Ok(value) = HeaderValue::from_str(value) {
                    fields.set(HeaderName::from_static(name), value);
                }
            }
        }
        fields.get_request(self.path.as_bytes())
    }

    fn admitted(&self, fields: &HeaderMap) -> Admitted {
        let copied = |name: &HeaderName| (name.clone(), fields.get(name).cloned());
        let user = self.copy.first().and_then(|name| fields.get(name)?.to_str().ok());
        let cookies = fields.get_all(header::SET_COOKIE).iter();
        Admitted {
            user: user.map(Box::from),
            request: self.copy.iter().map(copied).collect(),
            response: cookies.map(|cookie| (header::SET_COOKIE, cookie.clone())).collect(),
        }
    }

    fn refused(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        request: &RequestHead,
        context: &RequestContext,
    ) -> Response {
        let is_browser = request.method == Method::GET && prefers_html(&request.headers);
        let mut response =
            match self.sign_in.as_ref().filter(|_| is_browser && status == StatusCode::UNAUTHORIZED) {
                Some(sign_in) => {
                    let url = Values::new(request, context).url(sign_in);
                    let response = Response::redirect(StatusCode::FOUND, &String::from_utf8_lossy(&url));
                    response.with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
                }
                None if status == StatusCode::UNAUTHORIZED => {
                    Explanation::new(status, "You must be logged in to see this.").answer(&request.headers)
                }
                None => Explanation::new(status, "You may not see this.").answer(&request.headers),
            };
        for name in [header::WWW_AUTHENTICATE, header::SET_COOKIE] {
            for value in fields.get_all(&name) {
                response.headers.append(name.clone(), value.clone());
            }
        }
        response
    }

    fn tell(&self, what: Arguments<'_>) {
        static TOLD: Rarely = Rarely::new(10);
        if let Some(left_out) = TOLD.tell() {
            let upstream = &self.upstream.name;
            tracing::error!(left_out, %upstream, "the service that users are checked with {what}: 502");
        }
    }
}

fn unknown() -> Explanation {
    Explanation::new(StatusCode::BAD_GATEWAY, "It could not be found out who you are. Please try again soon.")
}

/// Sets what is said of the user to a server, in place of what the client has said.
pub(super) fn tell_server(head: &mut impl EditHeaders, context: &RequestContext) {
    const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
    let Some(auth) = context.route.as_ref().and_then(|route| route.auth.as_ref()) else { return };
    if let Authenticator::Service(service) = &auth.by {
        service.copy.iter().for_each(|name| head.remove(name));
    }
    for (name, value) in &context.auth_request {
        if let Some(value) = value {
            head.set(name.clone(), value.clone());
        }
    }
    if auth.remote_user {
        let user = context.user.as_deref().and_then(|user| HeaderValue::from_bytes(user.as_bytes()).ok());
        match user {
            Some(user) => head.set(REMOTE_USER, user),
            None => head.remove(&REMOTE_USER),
        }
    }
}
