//! A server's answer on its way to the client.

use std::sync::Arc;

use http::{HeaderName, Method, StatusCode, Version, header, uri::PathAndQuery};
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::{failure, instead, peer, send};
use crate::{
    answer::{Explanation, Fields, dress},
    exchange::Exchange,
    files::{accelerated, archive},
    handler::{self, Instead},
    observe::{How, X_REQUEST_ID},
    route::Route,
    state::State,
    upstream::Turn,
};

/// Takes the head of a server's answer; sends a file in its place where the application says so.
pub(super) async fn receive(
    state: &State,
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> Result<()> {
    if send::is_interim(response.status) {
        return Ok(());
    }
    let tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if tunnel && !session.is_upgrade_req() {
        return Err(failure::uninvited_upgrade());
    }
    exchange.answered = true;
    send::transport(session)?.forget_request();
    exchange.how = How::Proxy;
    count(state, response, exchange);
    let told = response
        .headers
        .get(accelerated::X_ACCEL_LIMIT_RATE)
        .and_then(|rate| rate.to_str().ok()?.parse().ok());
    send::limit(session, exchange, told)?;
    accelerated::set_charset(response);
    if tunnel {
        send::transport(session)?.become_tunnel();
        session.set_read_timeout(Some(peer::read_timeout(exchange)));
    }
    let is_list = archive::is_list(&response.headers) && response.status == StatusCode::OK;
    if is_list {
        if session.req_header().method == Method::HEAD {
            archive::forget_list(response);
            return Ok(());
        }
        return instead::collect(session, response.headers.clone(), exchange);
    }
    if accelerated::target(&response.headers).is_none() {
        return Ok(());
    }
    let (request, table) = (session.req_header(), state.table());
    match handler::accelerate(&table, request, &response.headers, exchange).await {
        Instead::Answer(answer, route) => {
            if let Some(route) = route.filter(|route| told.is_none() && route.settings.limit_rate.is_some()) {
                send::limit_by(session, &route, None)?;
            }
            // The worker has done its part; it need not be counted for the length of a download.
            exchange.lease = None;
            send::answer(session, answer, exchange).await
        }
        Instead::Route(route, target) => {
            carry(response, exchange);
            Err(redirect(session, exchange, route, target))
        }
    }
}

/// Redirects inside before it is taken for a loop, as in nginx.
const MOST_REDIRECTS: u8 = 10;

/// Keeps what the application says to the client beside what another server is to send: who it is, and how the content
/// is to be called and kept.
fn carry(response: &ResponseHeader, exchange: &mut Exchange) {
    const SAID: [HeaderName; 4] =
        [header::SET_COOKIE, header::CONTENT_DISPOSITION, header::CACHE_CONTROL, header::EXPIRES];
    for (name, value) in response.headers.iter().filter(|(name, _)| SAID.contains(name)) {
        exchange.carried.append(name.clone(), value.clone());
    }
}

/// Has a server of another route asked in place of the one that has answered. What the client sent as a body was for
/// that one.
fn redirect(
    session: &mut Session,
    exchange: &mut Exchange,
    route: Arc<Route>,
    target: PathAndQuery,
) -> Box<Error> {
    let trouble = |sentence| {
        tracing::error!(request_id = %exchange.id, to = %target, "{sentence}");
        failure::refused(Explanation::new(StatusCode::BAD_GATEWAY, "The application's answer leads nowhere."))
    };
    if !session.is_body_empty() {
        return trouble("the application redirects a request with a body to another server");
    }
    if exchange.redirects == MOST_REDIRECTS {
        return trouble("the application redirects in a circle");
    }
    exchange.redirects += 1;
    exchange.redirect = Some(target);
    exchange.route = Some(route);
    exchange.tries = 0;
    exchange.turn = Turn::default();
    failure::elsewhere()
}

/// The server has begun its answer: it is not silent, and how long it took is known. What it says of its load is for us
/// alone.
fn count(state: &State, response: &mut ResponseHeader, exchange: &mut Exchange) {
    let (Some(lease), Some(sent)) = (&mut exchange.lease, exchange.sent) else { return };
    let load = lease.upstream().settings().load_header.as_ref().and_then(|name| response.remove_header(name));
    lease.answered(load.as_ref());
    let took = Instant::now() - sent;
    exchange.upstream_took = Some(took);
    let (upstream, server) = (&lease.upstream().name, &lease.server().label);
    state.metrics.upstream_answer(upstream, server, response.status, took);
}

/// Takes out of the head what clients must not see, adds what the route adds.
pub(super) fn pass_on(session: &mut Session, response: &mut ResponseHeader, exchange: &Exchange) {
    if send::has_begun(session) || send::is_interim(response.status) {
        return;
    }
    send::close_if_stopping(session);
    accelerated::hide(response);
    if session.req_header().version < Version::HTTP_11 {
        // HTTP/1.0 knows no chunks: the answer ends with the connection.
        response.remove(&header::TRANSFER_ENCODING);
    }
    for (name, value) in &exchange.carried {
        // Cookies of both are set; of the rest the application's word counts, which knows what it has asked for.
        let kept = if *name == header::SET_COOKIE {
            response.append_header(name, value).map(|_| ())
        } else {
            response.insert_header(name, value)
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "a field of the application's is left out");
        }
    }
    if let Some(route) = &exchange.route {
        dress(response, response.status, &route.settings);
    }
    if !response.headers.contains_key(X_REQUEST_ID) {
        response.set(X_REQUEST_ID, exchange.id.value());
    }
}
