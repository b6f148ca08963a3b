//! `redirect = "https://…{uri}"`

use http::StatusCode;

use super::{
    action::{Action, ActionScope},
    answer::status,
};
use crate::config::{
    diagnostic::{Problem, show},
    keys::{
        Defaulted, Group, Is, Key, OneOf, Shape, TextShape,
        kind::{Of, Shaped},
    },
    print::{Pairs, quote},
    read::{Table, Value},
    template::{NameScope, Template, template},
};

/// Keys of the action.
pub const KEYS: Group = &[&REDIRECT, &STATUS];

static REDIRECT: Key<Shaped, OneOf> = Key {
    name: "redirect",
    kind: Shaped(|| Shape::Text(TARGET)),
    default: OneOf,
    about: "A redirect to this URL or path. `{uri}` is the path with its query as the client sent them, `{path}` the \
            path alone, `{host}` the host without its port. Captures of the expression are written in braces too.",
    example: "redirect = \"https://galaxy.example.org{uri}\"",
};

static STATUS: Defaulted<Of<StatusCode>> = Key {
    name: "status",
    kind: Of {
        shape: || Shape::Numbers(&[301, 302, 303, 307, 308]),
        read: redirect_status,
        show: |status| status.as_u16().to_string(),
    },
    default: Is(|| StatusCode::FOUND),
    about: "Status of the redirect. 308 is permanent and keeps the method.",
    example: "redirect = \"https://galaxy.example.org{uri}\", status = 301",
};

const TARGET: TextShape = TextShape { what: "URL or path", pattern: "^(/|https?://)" };

/// Reads the action.
pub fn read(table: &mut Table<'_>, value: Value<'_>, scope: &ActionScope<'_>) -> Option<Action> {
    let status = table.read(&STATUS);
    let text = value.string()?;
    let captures = scope.captures?;
    let to = value.parse(text, |text| target(text, captures))?;
    Some(Action::Redirect { to, status })
}

/// The keys with their values.
pub fn pairs(to: &Template, status: StatusCode) -> Pairs {
    Pairs::default().written(&REDIRECT, quote(&to.to_string())).key(&STATUS, &status)
}

fn target(text: &str, captures: &[&str]) -> Result<Template, Problem> {
    let relative = !["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
    if relative {
        let problem = Problem::new(
            format!("{} is not the target of a redirect", show(text)),
            "neither a URL nor a path",
        );
        return Err(problem.help(match text {
            "" => "write for example `redirect = \"https://galaxy.example.org{uri}\"`".into(),
            _ if text.starts_with('{') => format!("write `\"https://{text}\"`"),
            _ => format!("write `\"https://{text}\"`, or `\"/{text}\"` on the same site"),
        }));
    }
    if let Some(at) = text.find('$') {
        return Err(Problem::new(
            format!("{} has a variable of nginx in it", show(text)),
            "names stand in braces here",
        )
        .at(at..text.len())
        .help("`$request_uri` is `{uri}`, `$host` is `{host}`"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::new(format!("{} is not a URL", show(text)), "no spaces, only ASCII")
            .help("percent-encode what is not ASCII: a space is `%20`"));
    }
    template(text, NameScope { captures, response: false })
}

fn redirect_status(value: Value<'_>) -> Option<StatusCode> {
    match value.as_integer() {
        Some(("301" | "302" | "303" | "307" | "308", 10)) => status(value),
        _ => value.expected("301, 302, 303, 307 or 308", "status = 301"),
    }
}
