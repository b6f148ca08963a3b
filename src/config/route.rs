//! One entry of `[site.routes]`: a key, one action, and modifiers.

use std::sync::Arc;

use http::Method;

use super::{
    access::{self, Access},
    action, compress,
    diagnostic::{Problem, show},
    headers::{self, Headers},
    limit::{LimitNames, Limits},
    model::{Action, Buffering, Compress, PathPattern, Route, RouteRetry},
    pattern,
    read::{Key, ROUTE, ROUTE_RETRY, Table, Value},
    upstream::{self, Upstreams},
};

/// Words of `buffer`.
pub const BUFFERINGS: [(&str, Buffering); 3] =
    [("off", Buffering::Off), ("memory", Buffering::Memory), ("disk", Buffering::Disk)];

/// What routes take over from their site.
pub struct Inherited {
    /// Headers set on all answers.
    pub headers: Headers,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Whether answers are sent in a coding.
    pub compress: Option<Arc<Compress>>,
    /// Who may ask.
    pub access: Access,
    /// The limits that hold.
    pub limits: LimitNames,
}

/// Reads a route; without a `pattern` its key was wrong, which is noted, and the rest is read for what is wrong there.
pub fn read(
    key: Key<'_>,
    pattern: Option<PathPattern>,
    value: Value<'_>,
    site: &Inherited,
    upstreams: &Upstreams,
    limits: &Limits,
) -> Option<Route> {
    let mut table = table(key, value)?;
    let captures = pattern.as_ref().map(pattern::captures);
    let action = action::read(&mut table, key, captures.as_deref(), upstreams);
    let internal = table.optional("internal", Value::boolean).unwrap_or(false);
    let expires = table.optional("expires", Value::duration);
    let own_headers = table.optional("headers", headers::read).unwrap_or_default();
    let read_timeout = table.optional("read_timeout", Value::time);
    let hold = table.optional("hold", Value::duration);
    let retry = table.optional("retry", retry).unwrap_or_default();
    let buffer = table.optional("buffer", |value| value.choice(&BUFFERINGS, &[])).unwrap_or_default();
    let compress = table.optional("compress", compress::read).unwrap_or_else(|| site.compress.clone());
    let max_body = table.optional("max_body", Value::size).unwrap_or(site.max_body);
    let access = access::read(&mut table, &site.access);
    let limits =
        table.optional("limit", |value| limits.named(value)).unwrap_or_else(|| Arc::clone(&site.limits));
    let limit_rate = table.optional("limit_rate", Value::size).flatten();
    let limit_rate_after = table.optional("limit_rate_after", Value::size).flatten().unwrap_or_default();
    let methods = table.optional("methods", methods);
    table.finish();
    let (action, pattern) = (action?, pattern?);
    if internal {
        warn_without_within(value, key, &action);
    }
    Some(Route {
        key: key.text.into(),
        pattern,
        action,
        internal,
        expires,
        headers: headers::merge(&site.headers, own_headers),
        read_timeout,
        hold,
        retry,
        buffer,
        compress,
        max_body,
        access,
        limits,
        limit_rate,
        limit_rate_after,
        methods,
    })
}

fn table<'a>(key: Key<'a>, value: Value<'a>) -> Option<Table<'a>> {
    match value.as_table() {
        Some(table) => Some(Table::new(value.context, table, value.span(), &ROUTE)),
        None => value.wanted("a table", &example(key, value)),
    }
}

/// What was meant by a value that is no table.
fn example(key: Key<'_>, value: Value<'_>) -> String {
    let example = |action: &str| format!("{:?} = {{ {action} }}", key.text);
    match (value.as_str(), value.as_integer()) {
        (Some(path), _) if path.starts_with('/') => example(&format!("files = {path:?}")),
        (Some(url), _) if url.contains("://") => example(&format!("redirect = {url:?}")),
        (Some(name), _) => example(&format!("proxy = {name:?}")),
        (_, Some((status, _))) => example(&format!("answer = {status}")),
        _ => example("proxy = \"galaxy\""),
    }
}

fn warn_without_within(value: Value<'_>, key: Key<'_>, action: &Action) {
    let Action::Files(files) = action else { return };
    if !files.within.is_empty() {
        return;
    }
    let title = format!("the internal route {} has no `within`", show(key.text));
    let (label, directories) = match files.root.literal() {
        Some("/") => ("the application may send every file of this machine".into(), "/srv/galaxy/var".into()),
        Some(root) => (format!("the application may send every file below {root}"), root.to_owned()),
        None => ("the application may send every file that fits".into(), "/srv/galaxy/var".into()),
    };
    let problem = Problem::new(title, label);
    value.context.warn(
        key.span(),
        problem.help(format!("list the directories that downloads come from: `within = [{directories:?}]`")),
    );
}

fn retry(value: Value<'_>) -> Option<RouteRetry> {
    let mut table = value.table(&ROUTE_RETRY, "retry = { unsafe = true }")?;
    let tries = table.optional("tries", upstream::tries());
    let any_method = table.optional("unsafe", Value::boolean).unwrap_or(false);
    let on = table.optional("on", upstream::retry_on);
    table.finish();
    Some(RouteRetry { tries, on, any_method })
}

/// Reads a list of methods.
pub fn methods(value: Value<'_>) -> Option<Vec<Method>> {
    let example = "methods = [\"GET\", \"POST\"]";
    let items = value.list(example)?;
    if items.is_empty() {
        let problem = Problem::new("`methods` allows none", "empty");
        value.error(problem.help(format!("write for example `{example}`, or take it out to allow all")));
    }
    let mut methods = Vec::new();
    for item in items {
        let method = item.string(example).and_then(|text| item.parse(text, method));
        methods.extend(method.filter(|method| !methods.contains(method)));
    }
    Some(methods)
}

fn method(text: &str) -> Result<Method, Problem> {
    let upper = text.to_ascii_uppercase();
    let problem = || Problem::new(format!("{} is not a method", show(text)), "a word in upper case");
    match Method::from_bytes(upper.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(method) => Err(problem().help(format!("write `\"{method}\"`"))),
        Err(_) => Err(problem().help("write for example `\"GET\"`")),
    }
}
