//! Requests for interactive tools: which tool, what it is told, and what it may not say.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, StatusCode, header};

use crate::{
    config::{InteractiveTools, PathPattern},
    exchange::{
        RequestContext,
        resolve::{host, path},
    },
    files::accelerated,
    message::{EditHeaders, RequestHead},
    response::{Explanation, Response},
    route::PathMatch,
    site::{Authenticator, Route},
    tools::{LiveMap, NoTool, ToolAddress, ToolConnection, of_host, of_path},
    upstream::{NoServer, Upstream},
};

/// Seconds after which a client may ask again.
const ASK_AGAIN: u32 = 5;

/// Cookies that are Galaxy's alone: with them a tool could act as its user, and setting them would log a user in as another.
const SESSIONS: [&str; 3] = ["galaxysession", "galaxycommunitysession", "galaxyreportssession"];

/// Connection of a request to its tool.
pub(crate) struct ToolUse {
    connection: ToolConnection,
    /// Part of the path that names the tool (`/interactivetool/ep/KEY/TOKEN`); `None` where the host does.
    base: Option<Vec<u8>>,
}

/// Finds the tool that a request is for, and counts a connection to it.
///
/// # Errors
///
/// The response to a request for no tool: 400, 404 or 503.
#[expect(clippy::result_large_err, reason = "moved once, and no request pays for a box")]
pub(super) fn find(
    route: &Route,
    settings: &InteractiveTools,
    request: &RequestHead,
    by: &PathMatch<'_>,
    context: &mut RequestContext,
) -> Result<(), Response> {
    let refuse = |explanation: Explanation| explanation.answer(&request.headers);
    let host = host(request);
    let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    };
    let map = route.tools.as_ref().ok_or_else(|| refuse(no_tool(NoTool::Unread)))?;
    let connect = |address| connect(map, address, settings);
    let tool = if let Some(address) = of_host(&host) {
        connect(address).map(|connection| ToolUse { connection, base: None })
    } else {
        let PathMatch::Prefix(rest) = by else { return Err(refuse(no_tool(NoTool::Unknown))) };
        let Some((address, length)) = of_path(rest) else { return Err(refuse(no_tool(NoTool::Unknown))) };
        let base = [prefix(&route.settings.pattern), &rest[..length]].concat().into_bytes();
        // The tool gets the rest of the path byte for byte, so the part before must be as it is read.
        if !path(request).starts_with(&base) {
            let sentence = "The address of an interactive tool is written without escapes.";
            return Err(refuse(Explanation::new(StatusCode::BAD_REQUEST, sentence)));
        }
        connect(address).map(|connection| ToolUse { connection, base: Some(base) })
    };
    context.tool = Some(Box::new(tool.map_err(refuse)?));
    Ok(())
}

fn connect(
    map: &LiveMap,
    address: ToolAddress<'_>,
    settings: &InteractiveTools,
) -> Result<ToolConnection, Explanation> {
    map.connect(address, settings.max_connections).map_err(no_tool)
}

/// The prefix of a route, to which a path is added.
fn prefix(pattern: &PathPattern) -> &str {
    match pattern {
        PathPattern::Prefix { path, .. } if path != "/" => path,
        _ => "",
    }
}

/// Why there is no tool.
fn no_tool(reason: NoTool) -> Explanation {
    match reason {
        NoTool::Unknown => Explanation::new(
            StatusCode::NOT_FOUND,
            "There is no interactive tool at this address. It may have ended: Galaxy lists the active ones under \
             Interactive Tools.",
        ),
        NoTool::Unread => Explanation::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "It is not known at the moment where interactive tools run. Please try again soon.",
        )
        .retry_after(ASK_AGAIN),
        NoTool::Full => Explanation::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This interactive tool has as many connections open as it may have (max_connections). Please close some of its \
             pages.",
        )
        .retry_after(ASK_AGAIN),
    }
}

/// The tool cannot be connected to.
pub(super) fn unreachable(none: NoServer) -> Explanation {
    let (status, sentence) = match none {
        NoServer::Gone => return no_tool(NoTool::Unknown),
        NoServer::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "The service is being restarted. Please try again soon.")
        }
        NoServer::QueueFull(_) | NoServer::Expired(_) => (
            StatusCode::BAD_GATEWAY,
            "The interactive tool cannot be reached. If it was started just now, please reload this page in a moment; \
             otherwise it has crashed, and can be stopped and started again in Galaxy.",
        ),
    };
    tracing::warn!(reason = %none, %status, "an interactive tool cannot be reached");
    Explanation::new(status, sentence).retry_after(ASK_AGAIN)
}

impl ToolUse {
    /// The tool as an upstream of one server.
    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        self.connection.upstream()
    }

    /// Part of the path that the tool does not get.
    pub(super) fn removed_path(&self) -> Option<&[u8]> {
        self.base.as_deref().filter(|_| !self.connection.wants_whole_path())
    }

    /// The target that the tool is asked for.
    pub(super) fn target<'a>(&self, asked: &'a [u8]) -> Cow<'a, [u8]> {
        let target = self.removed_path().and_then(|base| asked.strip_prefix(base)).unwrap_or(asked);
        match target.first() {
            Some(b'/') => target.into(),
            _ => [b"/", target].concat().into(),
        }
    }

    /// Takes from the request what is not for a tool, and adds what it wants to know.
    pub(super) fn prepare(&self, head: &mut impl EditHeaders, context: &RequestContext) {
        head.remove_if(|name| {
            let is = |other: &[u8]| {
                let dash = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
                name.len() == other.len() && name.iter().map(dash).eq(other.iter().copied())
            };
            // gx-it-proxy, which may stand between, would believe them about where the tool is.
            is(b"x-interactive-tool-host") || is(b"x-interactive-tool-port")
        });
        without_sessions(head);
        let auth = context.route.as_ref().and_then(|route| route.auth.as_ref());
        if auth.is_some_and(|auth| matches!(auth.by, Authenticator::Password { .. })) {
            // The password is for this proxy.
            head.remove(&header::AUTHORIZATION);
        }
        if let Some(name) = self.connection.path_header() {
            let base = self.base.as_deref().and_then(|base| HeaderValue::from_bytes(base).ok());
            match base {
                Some(base) => head.set(name.clone(), base),
                None => head.remove(name),
            }
        }
    }
}

/// Removes Galaxy's session from the cookies of a request.
fn without_sessions(head: &mut impl EditHeaders) {
    let (mut kept, mut has_session) = (Vec::new(), false);
    head.each(&header::COOKIE, |line| {
        for pair in line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
            match is_session(pair) {
                true => has_session = true,
                false => kept.push(pair.to_vec()),
            }
        }
    });
    if !has_session {
        return;
    }
    match HeaderValue::from_bytes(&kept.join(&b"; "[..])) {
        Ok(value) if !kept.is_empty() => head.set(header::COOKIE, value),
        _ => head.remove(&header::COOKIE),
    }
}

/// Whether a cookie is Galaxy's session.
fn is_session(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    SESSIONS.iter().any(|session| name.eq_ignore_ascii_case(session.as_bytes()))
}

/// Removes from a tool's response what an application would say to the proxy: a tool is not the site's application.
pub(crate) fn forget_instructions(response: &mut impl EditHeaders) {
    accelerated::hide(response);
    let (mut kept, mut has_session) = (Vec::new(), false);
    response.each(&header::SET_COOKIE, |cookie| match is_session(cookie) {
        true => has_session = true,
        false => kept.extend(HeaderValue::from_bytes(cookie)),
    });
    if has_session {
        response.remove(&header::SET_COOKIE);
        kept.into_iter().for_each(|cookie| response.add(header::SET_COOKIE, cookie));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::message::{HeaderEdits, RawHeaders};

    #[test]
    fn galaxys_session_is_not_among_the_cookies_of_a_tool() {
        for (cookies, expected) in [
            ("galaxysession=1", None),
            ("a=b; galaxysession=1; c=d", Some("a=b; c=d")),
            ("GalaxySession=1;a=galaxysession=2", Some("a=galaxysession=2")),
            ("galaxysession2=1;xgalaxysession=2", Some("galaxysession2=1;xgalaxysession=2")),
        ] {
            let received = RawHeaders::of(&[("cookie", cookies)]);
            let mut head = HeaderEdits::new(&received);
            without_sessions(&mut head);
            let kept = head.get(&header::COOKIE).map(|kept| String::from_utf8_lossy(kept).into_owned());
            assert_eq!(kept.as_deref(), expected, "{cookies}");
        }
        let received = RawHeaders::of(&[("cookie", "a=b"), ("cookie", "galaxysession=1")]);
        let mut head = HeaderEdits::new(&received);
        without_sessions(&mut head);
        assert_eq!(head.get(&header::COOKIE), Some(&b"a=b"[..]));
    }

    #[test]
    fn a_tool_cannot_set_galaxys_session() {
        let received = RawHeaders::of(&[
            ("set-cookie", "_xsrf=1; Path=/"),
            ("set-cookie", "galaxysession=1; Domain=example.org"),
            ("x-accel-redirect", "/_x/etc/passwd"),
        ]);
        let mut head = HeaderEdits::new(&received);
        forget_instructions(&mut head);
        let mut cookies = Vec::new();
        head.each(&header::SET_COOKIE, |cookie| cookies.push(cookie.to_vec()));
        assert_eq!(cookies, [b"_xsrf=1; Path=/"]);
        assert!(head.get(&HeaderName::from_static("x-accel-redirect")).is_none());
    }
}
