//! `answer = 404`

use http::{HeaderValue, StatusCode};

use super::{
    action::{Action, ActionScope},
    files::MEDIA_TYPE,
};
use crate::config::{
    diagnostic::{Problem, show},
    headers,
    keys::{
        Defaulted, Group, Is, Key, OneOf, Optional, Shape, Unset,
        kind::{Of, Reads, STRING, Text},
    },
    print::Pairs,
    read::{Table, Value},
};

/// Keys of the action.
pub const KEYS: Group = &[&ANSWER, &BODY, &TYPE];

static ANSWER: Key<Of<StatusCode>, OneOf> = Key {
    name: "answer",
    kind: Of { shape: || Shape::Integer(200, 599), read: status, show: |status| status.as_u16().to_string() },
    default: OneOf,
    about: "A response with this status, made by the proxy (nginx's `return`).",
    example: "answer = 404",
};

static BODY: Optional<Of<String>> = Key {
    name: "body",
    kind: STRING,
    default: Unset("the proxy's page for errors, else nothing"),
    about: "Body of the response.",
    example: "answer = 503, body = \"down for maintenance\"",
};

static TYPE: Defaulted<Text<HeaderValue>> = Key {
    name: "type",
    kind: Text {
        form: MEDIA_TYPE,
        parse: content_type,
        show: |kind| kind.to_str().unwrap_or_default().to_owned(),
    },
    default: Is(|| HeaderValue::from_static("text/plain; charset=utf-8")),
    about: "Content-Type of `body`.",
    example: "answer = 200, body = \"<h1>Hello</h1>\", type = \"text/html; charset=utf-8\"",
};

/// Reads the action.
pub fn read(table: &mut Table<'_>, value: Value<'_>, _: &ActionScope<'_>) -> Option<Action> {
    let (body, kind) = (table.take(&BODY), table.take(&TYPE));
    let text = body.and_then(|value| BODY.kind.read(value));
    if let (Some(kind), None) = (kind, body) {
        let problem = Problem::new("`type` needs `body`", "no body to describe");
        kind.error(problem.help("add `body = \"…\"`, or remove it"));
    }
    let content_type = kind.and_then(|value| TYPE.kind.read(value)).unwrap_or_else(TYPE.default.0);
    let status = status(value)?;
    if matches!(status.as_u16(), 301..=303 | 307 | 308) {
        let problem =
            Problem::new(format!("a response with status {} needs a target", status.as_u16()), "a redirect");
        value.error(problem.help(format!("write `redirect = \"https://…\", status = {}`", status.as_u16())));
    }
    if let (Some(body), 204 | 205 | 304) = (body, status.as_u16()) {
        body.error(
            Problem::new(format!("a response with status {} has no body", status.as_u16()), "cannot be sent")
                .help("remove it, or write `answer = 200`"),
        );
    }
    Some(Action::Answer { status, body: text, content_type })
}

/// The keys with their values.
pub fn pairs(status: StatusCode, body: Option<&String>, content_type: &HeaderValue) -> Pairs {
    let pairs = Pairs::default().key(&ANSWER, &status).optional(&BODY, body);
    if body.is_some() { pairs.key(&TYPE, content_type) } else { pairs }
}

/// Reads the status of a response.
pub fn status(value: Value<'_>) -> Option<StatusCode> {
    let Some((number, radix)) = value.as_integer() else {
        let number = value
            .as_str()
            .filter(|text| text.len() == 3 && text.parse::<u16>().is_ok())
            .unwrap_or(if value.name == "expect" { "200" } else { "404" });
        return value.expected("a status without quotes", &format!("{} = {number}", value.name));
    };
    let number = u16::from_str_radix(number, radix).ok().filter(|number| (200..600).contains(number));
    let status = number.and_then(|number| StatusCode::from_u16(number).ok());
    if status.is_none() {
        value.error(
            Problem::new("this is not the status of a response", "must be from 200 to 599")
                .help(format!("write for example `{} = 404`", value.name)),
        );
    }
    status
}

/// Reads a media type.
pub fn content_type(text: &str) -> Result<HeaderValue, Problem> {
    let kind = text.split(';').next().unwrap_or_default().trim();
    match kind.split_once('/') {
        Some((class, name)) if !class.is_empty() && !name.is_empty() && !kind.contains(' ') => {
            headers::content(text)
        }
        _ => Err(Problem::new(format!("{} is not a content type", show(text)), "needs a `/`")
            .help("write for example `type = \"text/html; charset=utf-8\"`")),
    }
}
