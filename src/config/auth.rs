//! `[auth.NAME]`, and `auth` of a site or a route: users who must log in, by passwords or by another service.

use std::{path::PathBuf, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::{
    diagnostic::{Problem, one_of, show},
    headers,
    htpasswd::{self, Users},
    keys::{
        Defaulted, Described, Is, Key, Keys, OneOf, Optional, Shape, TextShape, Unset,
        kind::{BOOLEAN, FILE, Of, Shaped, Text},
    },
    named::{Examples, NamedTables},
    paths,
    print::{Out, Pairs, bare_or_quoted, path, quote},
    read::{Table, Value, text},
    template::{NameScope, Template, template},
    upstream::UpstreamTable,
};

/// Check of a request's user.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Name of the table; a table in place has none.
    pub name: Option<String>,
    /// How the user is told.
    pub method: AuthMethod,
    /// Whether upstream servers are told the user in `REMOTE-USER`.
    pub remote_user: bool,
}

/// How the user of a request is told.
#[derive(Debug, Clone)]
pub enum AuthMethod {
    /// By a password (RFC 7617).
    Htpasswd {
        /// File with users and hashes of their passwords.
        file: PathBuf,
        /// The users when the configuration was read.
        users: Arc<Users>,
        /// Name of the protected area, for people.
        realm: HeaderValue,
    },
    /// By a service that is asked for each request (forward authentication).
    Request {
        /// Name of the upstream that is asked.
        upstream: String,
        /// Path that is asked for.
        path: String,
        /// Headers of the service's response that upstream servers get. The first one names the user.
        copy: Vec<HeaderName>,
        /// URL to which browsers are redirected to log in.
        sign_in: Option<Template>,
    },
}

/// Requirement of a route with `allow` and `auth`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// Both `allow` and `auth`.
    #[default]
    All,
    /// Either `allow` or `auth`.
    Any,
}

/// The keys of `[auth.NAME]`.
pub static KEYS: Keys = Keys {
    title: "`[auth.NAME]`",
    place: "[auth.staff]\n…",
    about: "Users who must log in: by passwords in a file (`htpasswd`), or as another service says (`request`).",
    groups: &[&[&HTPASSWD, &REALM, &REQUEST, &PATH, &COPY, &SIGN_IN, &REMOTE_USER]],
    later: &[],
};

static HTPASSWD: Key<Shaped, OneOf> = Key {
    name: "htpasswd",
    kind: Shaped(|| Shape::Text(FILE)),
    default: OneOf,
    about: "File with a `USER:HASH` on each line, as `htpasswd` writes it: bcrypt, SHA-crypt, apr1 or SHA-1. A change \
            takes effect within a second.",
    example: "htpasswd = \"/etc/bowshock/htpasswd\"",
};

static REALM: Defaulted<Text<HeaderValue>> = Key {
    name: "realm",
    kind: Text {
        form: TextShape { what: "text without quotes", pattern: "^[^\"\\\\]*$" },
        parse: realm,
        show: |realm| realm.to_str().unwrap_or_default().into(),
    },
    default: Is(|| HeaderValue::from_static("Restricted")),
    about: "Name of the protected area, which browsers show when they ask for a password.",
    example: "htpasswd = \"/etc/bowshock/htpasswd\"\nrealm = \"Galaxy reports\"",
};

static REQUEST: Key<Shaped, OneOf> = Key {
    name: "request",
    kind: Shaped(|| Shape::Text(TextShape { what: "name of an `[upstream.NAME]`", pattern: "" })),
    default: OneOf,
    about: "Upstream that is asked about each request (oauth2-proxy, Authelia; nginx's `auth_request`): a 2xx admits \
            it, 401 and 403 refuse it. It gets the client's headers, X-Original-URI and X-Original-Method, and no body.",
    example: "request = \"galaxy\"",
};

static PATH: Defaulted<Text<String>> = Key {
    name: "path",
    kind: Text { form: TextShape { what: "path", pattern: "^/" }, parse: request_path, show: String::clone },
    default: Is(|| "/".into()),
    about: "Path that the service is asked for.",
    example: "request = \"galaxy\"\npath = \"/oauth2/auth\"",
};

static COPY: Optional<Of<Vec<HeaderName>>> = Key {
    name: "copy",
    kind: Of { read: copy, ..headers::NAMES },
    default: Unset("none"),
    about: "Headers of the service's response that upstream servers get, in place of any that the client sent. The \
            first one is `{user}`.",
    example: "request = \"galaxy\"\ncopy = [\"X-Auth-Request-User\", \"X-Auth-Request-Email\"]",
};

static SIGN_IN: Optional<Text<Template>> = Key {
    name: "sign_in",
    kind: Text {
        form: TextShape { what: "URL or path", pattern: "^(/|https?://)" },
        parse: sign_in,
        show: ToString::to_string,
    },
    default: Unset("401 for everybody"),
    about: "URL to which browsers are redirected to log in, instead of a 401: `GET` requests that accept HTML.",
    example: "request = \"galaxy\"\nsign_in = \"/oauth2/start?rd={uri}\"",
};

static REMOTE_USER: Defaulted<Of<bool>> = Key {
    name: "remote_user",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Tells upstream servers the user in REMOTE-USER, which WSGI applications see as HTTP_REMOTE_USER (Galaxy's \
            `use_remote_user`). What a client sends under this name is dropped.",
    example: "htpasswd = \"/etc/bowshock/htpasswd\"\nremote_user = true",
};

/// Key `auth` of sites and routes.
pub const fn key(default: Unset) -> Optional<Shaped> {
    Key {
        name: "auth",
        kind: Shaped(|| {
            let name = TextShape { what: "name of an `[auth.NAME]`, or `\"none\"`", pattern: "" };
            Shape::Either(vec![Shape::Text(name), Shape::Table(&KEYS)])
        }),
        default,
        about: "Users who must log in: an `[auth.NAME]` or its keys in place. `\"none\"` admits everybody.",
        example: "auth = { htpasswd = \"/etc/bowshock/htpasswd\" }",
    }
}

/// The `[auth.NAME]` of a file.
pub type AuthTables = NamedTables<Arc<Auth>>;

const EXAMPLES: Examples = Examples {
    kind: "auth",
    key: "auth = { htpasswd = \"/etc/bowshock/htpasswd\" }",
    line: "htpasswd = \"/etc/bowshock/htpasswd\"",
};

/// Reads `[auth]`.
pub fn tables(value: Value<'_>, upstreams: &UpstreamTable) -> AuthTables {
    NamedTables::read(value, |value, name| read(value, Some(name), upstreams))
}

/// Reads `auth` of a site or a route; `Some(None)` is none.
pub fn choose(value: Value<'_>, tables: &AuthTables, upstreams: &UpstreamTable) -> Option<Option<Arc<Auth>>> {
    tables.choose(value, &EXAMPLES, |value| read(value, None, upstreams), Arc::clone)
}

/// Writes an `[auth.NAME]`.
pub fn show_table(out: &mut Out, name: &str, auth: &Auth) {
    out.table(&format!("[auth.{}]", bare_or_quoted(name)), &pairs(auth));
}

/// The value of `auth`.
pub fn show_value(auth: Option<&Arc<Auth>>) -> String {
    match auth {
        None => quote("none"),
        Some(auth) => auth.name.as_ref().map_or_else(|| pairs(auth).braces(), |name| quote(name)),
    }
}

fn pairs(auth: &Auth) -> Pairs {
    let pairs = match &auth.method {
        AuthMethod::Htpasswd { file, realm, .. } => {
            Pairs::default().written(&HTPASSWD, path(file)).key(&REALM, realm)
        }
        AuthMethod::Request { upstream, path, copy, sign_in } => Pairs::default()
            .written(&REQUEST, quote(upstream))
            .key(&PATH, path)
            .optional(&COPY, Some(copy).filter(|names| !names.is_empty()))
            .optional(&SIGN_IN, sign_in.as_ref()),
    };
    pairs.unless_default(&REMOTE_USER, &auth.remote_user)
}

fn read(value: Value<'_>, name: Option<&str>, upstreams: &UpstreamTable) -> Option<Arc<Auth>> {
    let mut table = value.table(&KEYS)?;
    let method = match (table.take(&HTPASSWD), table.take(&REQUEST)) {
        (Some(_), Some(request)) => {
            let problem = Problem::new("`htpasswd` and `request` exclude each other", "as well");
            request.error(problem.help("keep one of them"));
            None
        }
        (Some(file), None) => by_password(&mut table, file),
        (None, Some(upstream)) => by_request(&mut table, upstream, upstreams),
        (None, None) => {
            // Without either of them nothing is known of the others.
            for key in [&REALM as &'static dyn Described, &PATH, &COPY, &SIGN_IN] {
                table.take(key);
            }
            if table.unknown().next().is_none() {
                let names = one_of(&["htpasswd", "request"]);
                let problem =
                    Problem::new(format!("{} needs {names}", KEYS.title), "says not how users are told");
                value.error(problem.help("add for example `htpasswd = \"/etc/bowshock/htpasswd\"`"));
            }
            None
        }
    };
    let remote_user = table.read(&REMOTE_USER);
    table.finish();
    Some(Arc::new(Auth { name: name.map(str::to_owned), method: method?, remote_user }))
}

fn by_password(table: &mut Table<'_>, value: Value<'_>) -> Option<AuthMethod> {
    let realm = table.read(&REALM);
    let (file, text) = paths::file(value, value.string()?)?;
    let (users, wrong) = htpasswd::read(&text);
    for (line, reason) in wrong.iter().take(5) {
        let title = format!("{}:{line}: {reason}", file.display());
        value.error(Problem::new(title, "this file").help("write a user with `htpasswd -B FILE USER`"));
    }
    Some(AuthMethod::Htpasswd { file, users: Arc::new(users), realm })
}

fn by_request(table: &mut Table<'_>, value: Value<'_>, upstreams: &UpstreamTable) -> Option<AuthMethod> {
    let path = table.read(&PATH);
    let copy = table.optional(&COPY).unwrap_or_default();
    let sign_in = table.optional(&SIGN_IN);
    let upstream = text(|name| upstreams.named(name))(value)?;
    Some(AuthMethod::Request { upstream, path, copy, sign_in })
}

fn realm(text: &str) -> Result<HeaderValue, Problem> {
    if text.contains(['"', '\\']) {
        return Err(Problem::new(format!("{} cannot be a realm", show(text)), "no quotes, no backslash"));
    }
    headers::content(text)
}

fn request_path(text: &str) -> Result<String, Problem> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.into());
    }
    Err(Problem::new(format!("{} is not a path", show(text)), "must start with `/`, only ASCII")
        .help("write for example `path = \"/oauth2/auth\"`"))
}

fn sign_in(text: &str) -> Result<Template, Problem> {
    if !["/", "http://", "https://"].iter().any(|start| text.starts_with(start)) {
        return Err(Problem::new(format!("{} is neither a URL nor a path", show(text)), "no `/` first")
            .help("write for example `sign_in = \"/oauth2/start?rd={uri}\"`"));
    }
    template(text, NameScope::default())
}

fn copy(value: Value<'_>) -> Option<Vec<HeaderName>> {
    Some(value.list()?.into_iter().filter_map(text(headers::name)).collect())
}
