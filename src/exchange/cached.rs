//! `cache` of a route: responses from the cache, and their way into it (RFC 9111).

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::{sync::watch, time::timeout};

use crate::{
    cache::{Begun, Fill, KEY, Key, Recorder, ResponseCache, Stored, StoredBody, is_storable, policy_of},
    clock,
    config::RouteCache,
    exchange::{
        Exchange, RequestContext,
        finish::finish,
        record::Sent,
        request_head::{apply_request_headers, target},
        resolve::host,
        serve_files,
        values::Values,
    },
    files::{self, Content, FileRequest},
    message::{BodyFraming, EditHeaders, HeaderEdits, RequestHead, cookies, has_word, is_hop_by_hop},
    response::{Body, Explanation, Piece, Response},
    state::State,
    upstream::{self, Subresponse, Upstream},
};

/// Longest wait for the response that another request has asked for.
const WAIT: Duration = Duration::from_secs(60);

/// What a request does with the cache.
pub(crate) struct CacheUse {
    cache: Arc<ResponseCache>,
    /// The response to it is stored.
    fill: Option<Fill>,
    /// Stored response that is past its lifetime.
    stale: Option<Arc<Stored>>,
    /// Value of Cache-Status (RFC 9211), without the name.
    status: String,
}

impl CacheUse {
    /// The header that tells a client what the cache did.
    pub(super) fn status(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("bowshock; {}", self.status)).ok()
    }

    /// A stored response that may be served in place of an error of the server.
    fn usable(&self) -> Option<&Arc<Stored>> {
        self.stale.as_ref().filter(|stored| stored.may_be_stale(clock::calendar(), false))
    }

    /// Whether the request need not wait for a server.
    pub(super) fn has_usable(&self) -> bool {
        self.usable().is_some()
    }
}

/// Conditions and ranges of a request. The response to a request without them can be stored.
const CONDITIONS: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// Prepares the head of a request whose response is to be stored.
pub(super) fn prepare(head: &mut impl EditHeaders, context: &RequestContext) {
    let Some(used) = context.cache.as_ref().filter(|used| used.fill.is_some()) else { return };
    validate_by(head, used.stale.as_deref());
}

/// Puts the validators of a stored response in the place of the client's conditions.
fn validate_by(head: &mut impl EditHeaders, stored: Option<&Stored>) {
    CONDITIONS.iter().for_each(|name| head.remove(name));
    for (name, value) in stored.into_iter().flat_map(Stored::validators) {
        head.set(name, value);
    }
}

impl Exchange<'_> {
    /// Responds from the cache of the route, or has a server respond.
    pub(super) async fn proxy_through_cache(&mut self, settings: &RouteCache) -> Sent {
        let Some(cache) = self.state.caches.find(&settings.name) else { return self.proxy().await };
        let request = &self.request.head;
        let headers = &request.headers;
        let now = clock::calendar();
        let primary = primary_key(request, self.context);
        self.context.cache = Some(Box::new(CacheUse {
            cache: Arc::clone(&cache),
            fill: None,
            stale: None,
            status: "fwd=bypass".into(),
        }));
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        if !is_read
            || (headers.has(header::AUTHORIZATION) && !settings.authorization)
            || !self.request.body.is_done()
        {
            let sent = self.proxy().await;
            self.count("bypass");
            return sent;
        }
        let asked = asked(settings, request, self.context);
        let control = headers.get(header::CACHE_CONTROL).unwrap_or_default();
        let mut has_waited = false;
        let (begun, stale) = loop {
            let stale = match cache.find(primary, &asked, now).await {
                Some(stored) if stored.is_fresh(&asked, now) => {
                    if let Some(sent) = self.respond_stored(&stored, "hit").await {
                        return sent;
                    }
                    None
                }
                found => found,
            };
            if has_word(control, b"only-if-cached") {
                let sentence = "Nothing is stored for this request, which asks for what is stored only.";
                self.begin(false);
                return self.explain(&Explanation::new(StatusCode::GATEWAY_TIMEOUT, sentence)).await;
            }
            let begun = cache.begin(primary, &asked);
            if let Some(stored) = &stale
                && self.may_respond_stale(stored, &begun, control, now)
            {
                if let Begun::Fill(fill) = begun {
                    self.validate(fill, Some(Arc::clone(stored)), settings);
                }
                return match self.respond_stored(stored, "stale").await {
                    Some(sent) => sent,
                    None => self.proxy().await,
                };
            }
            match begun {
                Begun::Wait(done) if !has_waited => {
                    wait(done).await;
                    has_waited = true;
                }
                begun => break (begun, stale),
            }
        };
        self.say(if stale.is_some() { "fwd=stale" } else { "fwd=uri-miss" });
        // Nobody waits for a response that will not be stored.
        let stores = request.method == Method::GET && !has_word(control, b"no-store");
        if let Begun::Fill(fill) = begun
            && stores
        {
            if stale.is_none() && headers.has(header::RANGE) {
                // The client gets its part from the server, and others get theirs from the whole.
                self.validate(fill, None, settings);
            } else if let Some(used) = &mut self.context.cache {
                (used.fill, used.stale) = (Some(fill), stale);
            }
        }
        let sent = self.proxy().await;
        self.count("miss");
        sent
    }

    /// Whether a client gets a response past its lifetime: while it is validated, or while no server is there.
    fn may_respond_stale(&self, stored: &Stored, begun: &Begun, control: &[u8], now: SystemTime) -> bool {
        let is_validated = matches!(begun, Begun::Wait(_)) && stored.may_be_stale(now, true);
        let validating =
            !has_word(control, b"no-cache") && (is_validated || stored.may_be_validated_later(now));
        validating || (stored.may_be_stale(now, false) && !self.has_server())
    }

    fn say(&mut self, status: &str) {
        if let Some(used) = &mut self.context.cache {
            status.clone_into(&mut used.status);
        }
    }

    fn count(&self, result: &str) {
        if let Some(used) = &self.context.cache {
            self.state.metrics.cache_request(used.cache.name(), result);
        }
    }

    /// Whether a server of the upstream can be asked now.
    fn has_server(&self) -> bool {
        self.context.upstream().is_some_and(|upstream| {
            let checks = upstream.settings().health.is_some();
            upstream.servers().iter().any(|entry| entry.server.is_usable(checks))
        })
    }

    /// Responds with a stored response; `None` where its file is gone.
    async fn respond_stored(&mut self, stored: &Arc<Stored>, result: &'static str) -> Option<Sent> {
        let response = stored_response(self.state, stored, &self.request.head).await?;
        let left = stored.lifetime_left(clock::calendar()).as_secs();
        self.say(&if result == "hit" { format!("hit; ttl={left}") } else { "hit; detail=stale".into() });
        self.count(result);
        let response = finish(response, &self.request.head, self.context);
        Some(self.respond_without_server(response).await)
    }

    /// Responds with a stored response in place of an error, where there is one that may be.
    pub(super) async fn respond_stale(&mut self) -> Option<Sent> {
        let used = self.context.cache.as_mut()?;
        used.fill = None;
        let stored = Arc::clone(used.usable()?);
        let response = stored_response(self.state, &stored, &self.request.head).await?;
        self.say("hit; detail=stale");
        let response = finish(response, &self.request.head, self.context);
        Some(self.respond(response).await)
    }

    /// Asks the server in the background, for a response or whether that stored one still holds.
    fn validate(&self, fill: Fill, stored: Option<Arc<Stored>>, settings: &RouteCache) {
        let Some(upstream) = self.context.upstream().cloned() else { return };
        let question = self.question(&upstream, stored.as_deref());
        let task = Validation {
            upstream,
            question,
            stored,
            fill,
            ttl: settings.ttl,
            set_cookie: settings.set_cookie,
        };
        tokio::spawn(task.run());
    }

    /// Head of a request like the client's, without its conditions.
    fn question(&self, upstream: &Upstream, stored: Option<&Stored>) -> BytesMut {
        let (request, context) = (&self.request.head, &*self.context);
        let mut fields = HeaderEdits::new(&request.headers);
        if let Some(client) = &context.client {
            upstream::prepare(&mut fields, request, client, &context.id, &upstream.name);
        }
        apply_request_headers(&mut fields, request, context);
        validate_by(&mut fields, stored);
        fields.get_request(&target(request, context))
    }

    /// Begins to record a response for the cache, if it may be stored.
    pub(super) fn recorder(
        &mut self,
        status: StatusCode,
        fields: &HeaderEdits<'_>,
        framing: &BodyFraming,
    ) -> Option<Box<Recorder>> {
        let route = self.context.route.clone()?;
        let settings = route.settings.cache.as_ref()?;
        let fill = self.context.cache.as_mut()?.fill.take()?;
        let headers = storable_headers(&fields.map(), settings.set_cookie);
        let length = if let BodyFraming::Length(length) = framing { *length } else { 0 };
        match record(fill, status, headers, length, settings.ttl) {
            Some(recorder) => {
                if let Some(used) = &mut self.context.cache {
                    used.status.push_str("; stored");
                }
                Some(Box::new(recorder))
            }
            None => None,
        }
    }
}

/// What follows from the head of a response to a request that is in a cache.
pub(super) enum CacheVerdict {
    /// The client gets it.
    PassOn,
    /// The client gets this in its place.
    Replace(Response),
    /// The server is asked again, without the conditions of the cache.
    AskAgain,
}

/// Takes the head of a response to a request that is in a cache.
pub(super) async fn receive(
    state: &State,
    request: &RequestHead,
    (status, response): (StatusCode, &impl EditHeaders),
    context: &mut RequestContext,
) -> CacheVerdict {
    if let Some(used) = &context.cache
        && !request.method.is_safe()
        && (status.is_success() || status.is_redirection())
    {
        // What is stored is about something that has changed (RFC 9111 §4.4): it goes before the client knows.
        used.cache.remove(primary_key(request, context));
    }
    let Some(used) = context.cache.as_mut() else { return CacheVerdict::PassOn };
    let Some(stale) = used.stale.clone() else { return CacheVerdict::PassOn };
    let stored = if status == StatusCode::NOT_MODIFIED {
        let Some(fill) = used.fill.take() else { return CacheVerdict::PassOn };
        used.stale = None;
        let headers = storable_headers(&response.map(), false);
        let Some(fresh) = stale.refreshed(fill.request(), &headers, clock::calendar()) else {
            return CacheVerdict::AskAgain;
        };
        let _ = write!(used.status, "; fwd-status=304");
        fill.refresh(fresh)
    } else if status.is_server_error() {
        let Some(usable) = used.usable().cloned() else { return CacheVerdict::PassOn };
        used.fill = None;
        let _ = write!(used.status, "; fwd-status={}; detail=stale", status.as_u16());
        usable
    } else {
        return CacheVerdict::PassOn;
    };
    match stored_response(state, &stored, request).await {
        Some(response) => CacheVerdict::Replace(finish(response, request, context)),
        None => CacheVerdict::AskAgain,
    }
}

/// Background request of the cache.
struct Validation {
    upstream: Arc<Upstream>,
    question: BytesMut,
    stored: Option<Arc<Stored>>,
    fill: Fill,
    ttl: Option<Duration>,
    set_cookie: bool,
}

impl Validation {
    async fn run(self) {
        let Ok(mut response) = Subresponse::of(&self.upstream, &self.question).await else { return };
        let status = response.head.status;
        let headers = storable_headers(&response.fields, self.set_cookie);
        if status == StatusCode::NOT_MODIFIED {
            let fresh = self
                .stored
                .and_then(|stored| stored.refreshed(self.fill.request(), &headers, SystemTime::now()));
            if let Some(fresh) = fresh {
                self.fill.refresh(fresh);
            }
            return;
        }
        if status.is_server_error() || files::accelerated::target(&response.fields).is_some() {
            return;
        }
        let length = match response.head.framing(&Method::GET) {
            Ok(BodyFraming::Length(length)) => length,
            _ => 0,
        };
        if let Some(mut recorder) = record(self.fill, status, headers, length, self.ttl)
            && response.body(|part| recorder.write(part)).await.is_ok()
        {
            recorder.finish();
        }
    }
}

/// Recorder of a response that may be stored; `length` of its body, 0 where that is unknown.
fn record(
    fill: Fill,
    status: StatusCode,
    headers: HeaderMap,
    length: u64,
    ttl: Option<Duration>,
) -> Option<Recorder> {
    let now = clock::calendar();
    let policy = policy_of(fill.request(), status, &headers, ttl, now);
    let is_partial = headers.contains_key(header::CONTENT_RANGE) || status == StatusCode::PARTIAL_CONTENT;
    if is_partial || !is_storable(&policy, &headers) || !fill.cache().takes(length) {
        fill.pass();
        return None;
    }
    let has_key = fill.request().contains_key(KEY);
    let mut stored = Stored::new(fill.primary(), policy, (status, headers), now);
    if has_key {
        stored.vary_by(KEY);
    }
    Some(Recorder::new(fill, stored))
}

/// Headers of a response that are stored. A response with Set-Cookie is for one client, unless the route says otherwise.
fn storable_headers(headers: &HeaderMap, set_cookie: bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let is_framing = is_hop_by_hop(name.as_str().as_bytes()) || *name == header::CONTENT_LENGTH;
        let is_cookie = set_cookie && *name == header::SET_COOKIE;
        let is_age = *name == HeaderName::from_static("age");
        if ![is_framing, is_cookie, is_age].contains(&true) {
            kept.append(name.clone(), value.clone());
        }
    }
    if kept.contains_key(header::SET_COOKIE) {
        kept.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Some(age) = headers.get("age") {
        kept.insert("age", age.clone());
    }
    kept
}

/// The response that a client gets of a stored one; `None` where its file is gone.
async fn stored_response(state: &State, stored: &Arc<Stored>, request: &RequestHead) -> Option<Response> {
    let mut headers = stored.headers.clone();
    headers.insert("age", stored.age(clock::calendar()).into());
    let (method, asked) = (&request.method, &request.headers);
    let length = stored.body.length();
    let opened = match &stored.body {
        StoredBody::Memory(_) => None,
        StoredBody::File { path, .. } => {
            let table = state.table();
            Some(serve_files::open(&table.files, &FileRequest::file(path.clone())).await.ok()?)
        }
    };
    let piece = |start: u64, length: u64| match (&stored.body, &opened) {
        (StoredBody::Memory(bytes), _) => {
            Piece::Bytes(bytes.slice(start as usize..(start + length) as usize))
        }
        (_, Some(opened)) => Piece::File { file: Arc::clone(&opened.file), offset: start, length },
        (_, None) => Piece::Bytes(bytes::Bytes::new()),
    };
    if stored.status == StatusCode::OK {
        let content = Content { size: length, file: None, piece: &|span| piece(span.start, span.length) };
        return Some(files::respond_stored(&content, method, asked, headers));
    }
    let response = Response { headers, ..Response::empty(stored.status) };
    Some(if length == 0 { response } else { response.body(Body::piece(piece(0, length))) })
}

/// Key of what a request asks for: scheme and host are always part of it.
fn primary_key(request: &RequestHead, context: &RequestContext) -> Key {
    let scheme = context.client.as_ref().map_or("http", |client| client.scheme());
    key_of(scheme, host(request), request.target.path_and_query())
}

/// Key of a URL.
pub(crate) fn key_of(scheme: &str, host: &str, path_and_query: &[u8]) -> Key {
    let host = host.to_ascii_lowercase();
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(usual).unwrap_or(&host);
    let slash: &[u8] = if path_and_query.starts_with(b"/") { b"" } else { b"/" };
    Key::of([scheme.as_bytes(), host.as_bytes(), &[slash, path_and_query].concat()])
}

/// Headers of a request as the cache looks at them, with what the route adds to the key.
fn asked(settings: &RouteCache, request: &RequestHead, context: &RequestContext) -> HeaderMap {
    let mut asked = request.headers.map();
    if settings.authorization {
        asked.remove(header::AUTHORIZATION);
    }
    // In the key already, in one form.
    asked.remove(header::HOST);
    asked.remove(KEY);
    let values = Values::new(request, context);
    let mut added = settings.key.as_ref().map(|key| values.url(key)).unwrap_or_default();
    for name in &settings.vary_cookie {
        added.extend_from_slice(b"\t");
        added.extend(cookies(&request.headers, name).next().unwrap_or_default());
    }
    if let Some(value) = HeaderValue::from_bytes(&added).ok().filter(|value| !value.is_empty()) {
        asked.insert(KEY, value);
    }
    asked
}

async fn wait(mut done: watch::Receiver<()>) {
    // The sender is dropped at the end; nothing is ever sent.
    let _ = timeout(WAIT, done.changed()).await;
}
