//! Actions of routes: exactly one per route, with its own modifiers.

use http::{HeaderValue, StatusCode};

use super::{
    answer,
    files::{self, Files},
    proxy, redirect,
    tools::{self, InteractiveTools},
};
use crate::config::{
    diagnostic::{Problem, one_of, show},
    keys::{Described, Group},
    pattern::PathPattern,
    print::Pairs,
    read::{FileKey, Table, Value},
    template::Template,
    upstream::UpstreamTable,
};

/// Action of a route.
#[derive(Debug, Clone)]
pub enum Action {
    /// `proxy = "upstream"`: the name is a key of [`Config::upstreams`].
    Proxy(String),
    /// `files = "/dir"`
    Files(Files),
    /// `redirect = "https://…{path}"`
    Redirect {
        /// The target; `{path}` is the path and query as the client sent them, `{host}` the host.
        to: Template,
        /// 301, 302, 303, 307 or 308; 302 when not written.
        status: StatusCode,
    },
    /// `answer = 404`
    Answer {
        /// The status.
        status: StatusCode,
        /// Body; `None` is the proxy's error page for an error status, else no body.
        body: Option<String>,
        /// `Content-Type` of the body; `text/plain; charset=utf-8` when not written.
        content_type: HeaderValue,
    },
    /// `interactive_tools = "/srv/galaxy/var/interactivetools_map.sqlite"`
    InteractiveTools(InteractiveTools),
}

/// Kind of action: its group of keys, the first of which names it, and its reader.
struct ActionKind {
    keys: Group,
    /// Keys of other actions that it has too.
    shared: Group,
    read: fn(&mut Table<'_>, Value<'_>, &ActionScope<'_>) -> Option<Action>,
}

/// The actions.
static KINDS: [ActionKind; 5] = [
    ActionKind { keys: proxy::KEYS, shared: &[], read: proxy::read },
    ActionKind { keys: files::KEYS, shared: &[], read: files::read },
    ActionKind { keys: redirect::KEYS, shared: &[], read: redirect::read },
    ActionKind { keys: answer::KEYS, shared: &[], read: answer::read },
    ActionKind { keys: tools::KEYS, shared: tools::SHARED, read: tools::read },
];

impl ActionKind {
    fn key(&self) -> &'static dyn Described {
        self.keys[0]
    }

    fn modifiers(&self) -> Group {
        &self.keys[1..]
    }
}

/// Parts of the file that actions refer to, beside their own table.
pub struct ActionScope<'a> {
    /// Capture groups of the route's expression; `None` when the route's key is invalid, so that they are unknown.
    pub captures: Option<&'a [&'a str]>,
    /// The route's pattern; `None` when it is invalid.
    pub pattern: Option<&'a PathPattern>,
    /// The upstreams of the file.
    pub upstreams: &'a UpstreamTable,
}

/// Reads the action of the route `key`.
pub fn read(table: &mut Table<'_>, key: FileKey<'_>, scope: &ActionScope<'_>) -> Option<Action> {
    let actions = KINDS.each_ref().map(ActionKind::key);
    let kind = match table.present(&actions).as_slice() {
        [only] => KINDS.iter().find(|kind| kind.key().name() == only.text)?,
        [] => {
            missing(table, key);
            take_all(table);
            return None;
        }
        [first, rest @ ..] => {
            let all: Vec<&str> = rest.iter().chain([first]).map(|key| key.text).collect();
            let title = format!("the route {} has {} actions", show(key.text), all.len());
            for second in rest {
                second.error(
                    Problem::new(title.clone(), format!("`{}` as well", second.text))
                        .also(first.span(), "one action")
                        .help(format!("keep one of {}; give the other its own route", one_of(&names()))),
                );
            }
            take_all(table);
            return None;
        }
    };
    refuse_foreign(table, kind);
    let value = table.take(kind.key())?;
    (kind.read)(table, value, scope)
}

/// The keys with their values.
pub fn pairs(action: &Action) -> Pairs {
    match action {
        Action::Proxy(name) => proxy::pairs(name),
        Action::Files(files) => files::pairs(files),
        Action::Redirect { to, status } => redirect::pairs(to, *status),
        Action::Answer { status, body, content_type } => answer::pairs(*status, body.as_ref(), content_type),
        Action::InteractiveTools(tools) => tools::pairs(tools),
    }
}

fn names() -> [&'static str; KINDS.len()] {
    KINDS.each_ref().map(|kind| kind.key().name())
}

fn missing(table: &Table<'_>, key: FileKey<'_>) {
    // An unknown key is most likely the action, misspelt or in nginx's words.
    if table.unknown().next().is_none() {
        let title = format!("the route {} has no action", show(key.text));
        key.error(
            Problem::new(title, format!("needs exactly one of {}", one_of(&names())))
                .help("write for example `{ proxy = \"galaxy\" }`"),
        );
    }
}

/// Takes all keys, so that a route without a single action is reported for that alone.
fn take_all(table: &mut Table<'_>) {
    for key in KINDS.iter().flat_map(|kind| kind.keys) {
        table.take(*key);
    }
}

fn refuse_foreign(table: &mut Table<'_>, kind: &ActionKind) {
    let action = kind.key().name();
    for other in KINDS.iter().filter(|other| other.key().name() != action) {
        let owner = other.key().name();
        let is_shared = |key: &dyn Described| kind.shared.iter().any(|shared| shared.name() == key.name());
        for modifier in other.modifiers().iter().filter(|key| !is_shared(**key)) {
            let Some(key) = table.place_of(*modifier) else { continue };
            let name = key.text;
            let title = format!("`{name}` belongs to `{owner}`, and this route has `{action}`");
            let help = match (name, action) {
                ("status", "answer") => "`answer` is the status: write `answer = 404`".into(),
                ("read_timeout", _) => "remove it; timeouts of clients are in `[server]`".into(),
                _ => format!("remove it, or make it a route with `{owner}`"),
            };
            key.error(Problem::new(title, "has no meaning here").help(help));
            table.take(*modifier);
        }
    }
}
