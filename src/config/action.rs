//! What a route does: exactly one action, with the modifiers that belong to it alone.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderValue, StatusCode};

use super::{
    compress::CODINGS,
    diagnostic::{Problem, one_of, show},
    headers,
    model::{Action, Coding, Files, Part, Symlinks, Template, Types},
    paths,
    read::{Key, Table, Value, text},
    template::template,
    upstream::Upstreams,
};

/// The actions.
pub const ACTIONS: [&str; 4] = ["proxy", "files", "redirect", "answer"];

/// Words of `symlinks`.
pub const SYMLINKS: [(&str, Symlinks); 3] =
    [("inside", Symlinks::Inside), ("follow", Symlinks::Follow), ("none", Symlinks::None)];

/// Modifiers that belong to one action.
const OWNED: [(&str, &str); 13] = [
    ("within", "files"),
    ("symlinks", "files"),
    ("try", "files"),
    ("index", "files"),
    ("listing", "files"),
    ("precompressed", "files"),
    ("types", "files"),
    ("read_timeout", "proxy"),
    ("hold", "proxy"),
    ("retry", "proxy"),
    ("status", "redirect"),
    ("body", "answer"),
    ("type", "answer"),
];

/// What a redirect knows beside the groups of its route.
const REDIRECT_WORDS: [&str; 2] = ["path", "host"];

/// Reads the action of the route `key`, whose expression has these `captures`; `None` when the key itself is
/// wrong, so that nothing is known about them.
pub fn read(
    table: &mut Table<'_>,
    key: Key<'_>,
    captures: Option<&[&str]>,
    upstreams: &Upstreams,
) -> Option<Action> {
    let action = match table.which(&ACTIONS).as_slice() {
        [only] => only.text,
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
                        .help(format!("keep one of {}; give the other its own route", one_of(&ACTIONS))),
                );
            }
            take_all(table);
            return None;
        }
    };
    refuse_foreign(table, action);
    let value = table.take(action)?;
    match action {
        "proxy" => text("\"galaxy\"", |name| upstreams.named(name))(value).map(Action::Proxy),
        "files" => {
            let within = table.optional("within", within).unwrap_or_default();
            let symlinks =
                table.optional("symlinks", |value| value.choice(&SYMLINKS, &[])).unwrap_or_default();
            let index = table.optional("index", index).unwrap_or_default();
            let listing = table.optional("listing", Value::boolean).unwrap_or(false);
            let precompressed = table.optional("precompressed", precompressed).unwrap_or_default();
            let types = table.optional("types", types).unwrap_or_default();
            let otherwise = table.optional("try", |value| {
                let items = value.list("try = [\"/srv/galaxy/custom/static\"]")?;
                Some(items.into_iter().filter_map(|item| place(item, captures)).collect())
            });
            let root = place(value, captures)?;
            let otherwise = otherwise.unwrap_or_default();
            Some(Action::Files(Files {
                root,
                within,
                otherwise,
                symlinks,
                index,
                listing,
                precompressed,
                types,
            }))
        }
        "redirect" => {
            let status = table.optional("status", redirect_status).unwrap_or(StatusCode::FOUND);
            let example = "redirect = \"https://galaxy.example.org{path}\"";
            let text = value.string(example)?;
            let captures = captures?;
            let to = value.parse(text, |text| target(text, captures))?;
            Some(Action::Redirect { to, status })
        }
        _ => answer(table, value),
    }
}

fn missing(table: &Table<'_>, key: Key<'_>) {
    // An unknown key is most likely the action, misspelt or in nginx's words.
    if table.unknown().next().is_none() {
        let title = format!("the route {} does nothing", show(key.text));
        key.error(
            Problem::new(title, format!("needs exactly one of {}", one_of(&ACTIONS)))
                .help("write for example `{ proxy = \"galaxy\" }`"),
        );
    }
}

/// What is left over from a route that has no single action is told by that alone.
fn take_all(table: &mut Table<'_>) {
    for key in ACTIONS.iter().copied().chain(OWNED.iter().map(|(key, _)| *key)) {
        table.take(key);
    }
}

fn refuse_foreign(table: &mut Table<'_>, action: &str) {
    for (modifier, owner) in OWNED.iter().filter(|(_, owner)| *owner != action) {
        let Some(key) = table.which(&[modifier]).first().copied() else { continue };
        let title = format!("`{modifier}` belongs to `{owner}`, and this route has `{action}`");
        let help = match (*modifier, action) {
            ("status", "answer") => "`answer` is the status: write `answer = 404`".into(),
            ("read_timeout", _) => "take it out; what clients are waited for is in `[server]`".into(),
            _ => format!("take it out, or make it a route with `{owner}`"),
        };
        key.error(Problem::new(title, "has no meaning here").help(help));
        table.take(modifier);
    }
}

/// A directory or file, perhaps with captures in its name, that must be there as far as it is known.
fn place(value: Value<'_>, captures: Option<&[&str]>) -> Option<Template> {
    let text = value.string(&format!("{} = \"/srv/galaxy/server/static\"", value.name))?;
    let captures = captures?;
    let root = value.parse(text, |text| root(text, captures))?;
    paths::need_something(value, &fixed_part(&root));
    Some(root)
}

/// One name or a list of them.
fn index(value: Value<'_>) -> Option<Vec<String>> {
    let name = |text: &str| match text {
        "" | "." | ".." => {
            Err(Problem::new(format!("{} names no file", show(text)), "not the name of a file"))
        }
        _ if text.contains('/') => {
            Err(Problem::new(format!("{} is a path", show(text)), "a name, in each directory")
                .help("take out the slash"))
        }
        _ => Ok(text.to_owned()),
    };
    let one = text("\"index.html\"", name);
    match value.as_list() {
        Some(items) => Some(items.into_iter().filter_map(one).collect()),
        None => one(value).map(|name| vec![name]),
    }
}

/// `true`, `false` or a list of codings.
fn precompressed(value: Value<'_>) -> Option<Arc<[Coding]>> {
    let example = "precompressed = [\"br\", \"gzip\"]";
    match value.as_bool() {
        Some(true) => return Some(Coding::ALL.into()),
        Some(false) => return Some(Arc::default()),
        None if value.as_list().is_none() => {
            return value.wanted("`true`, `false` or a list of codings", example);
        }
        None => {}
    }
    let items = value.list(example)?;
    if items.is_empty() {
        let problem = Problem::new("`precompressed` names no coding", "empty");
        value.error(problem.help("write `precompressed = false` where files are sent as they are"));
    }
    let coding = |item: Value<'_>| item.choice(&CODINGS, &[]).map(|(coding, _)| coding);
    Some(items.into_iter().filter_map(coding).collect())
}

fn types(value: Value<'_>) -> Option<Types> {
    let entries = value.entries("types = { bam = \"application/octet-stream\" }")?;
    let entry = |(key, value): (Key<'_>, Value<'_>)| {
        let ending = key.text.trim_start_matches('.').to_ascii_lowercase();
        Some((ending, text("\"application/octet-stream\"", content_type)(value)?))
    };
    Some(entries.into_iter().filter_map(entry).collect())
}

fn root(text: &str, captures: &[&str]) -> Result<Template, Problem> {
    paths::shape(text, "/srv/galaxy")?;
    if text.starts_with("/{") {
        // A request could choose any directory of the machine.
        return Err(Problem::new(
            format!("{} lets the request choose among all directories", show(text)),
            "a fixed directory first",
        )
        .help("write for example `\"/srv/galaxy/{name}\"`"));
    }
    template(paths::trimmed(text), &[], captures)
}

/// The directory that all files of a template are in, or the file when nothing varies.
fn fixed_part(root: &Template) -> PathBuf {
    match (root.literal(), root.0.first()) {
        (Some(path), _) => path.into(),
        (None, Some(Part::Text(text))) => {
            let (directory, _) = text.rsplit_once('/').unwrap_or_default();
            paths::trimmed(directory).into()
        }
        _ => Path::new("/").into(),
    }
}

fn within(value: Value<'_>) -> Option<Vec<PathBuf>> {
    let example = "within = [\"/srv/galaxy/var\"]";
    let items = value.list(example)?;
    if items.is_empty() {
        let problem = Problem::new("`within` names no directory", "empty");
        value.error(problem.help(format!("write for example `{example}`")));
    }
    let read = |item: Value<'_>| {
        let path = item.parse(item.string(example)?, |text| paths::absolute(text, "/srv/galaxy"))?;
        paths::need_directory(item, &path);
        Some(path)
    };
    Some(items.into_iter().filter_map(read).collect())
}

fn target(text: &str, captures: &[&str]) -> Result<Template, Problem> {
    let relative = !["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
    if relative {
        let problem = Problem::new(
            format!("{} is not the target of a redirect", show(text)),
            "neither a URL nor a path",
        );
        return Err(problem.help(match text {
            "" => "write for example `redirect = \"https://galaxy.example.org{path}\"`".into(),
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
        .help("`$request_uri` is `{path}`, `$host` is `{host}`"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::new(format!("{} is not a URL", show(text)), "no spaces, only ASCII")
            .help("percent-encode what is not ASCII: a space is `%20`"));
    }
    template(text, &REDIRECT_WORDS, captures)
}

fn redirect_status(value: Value<'_>) -> Option<StatusCode> {
    match value.as_integer() {
        Some(("301" | "302" | "303" | "307" | "308", 10)) => status(value),
        _ => value.wanted("301, 302, 303, 307 or 308", "status = 301"),
    }
}

/// Reads the status of an answer.
pub fn status(value: Value<'_>) -> Option<StatusCode> {
    let Some((number, radix)) = value.as_integer() else {
        let number = value
            .as_str()
            .filter(|text| text.len() == 3 && text.parse::<u16>().is_ok())
            .unwrap_or(if value.name == "expect" { "200" } else { "404" });
        return value.wanted("a status without quotes", &format!("{} = {number}", value.name));
    };
    let number = u16::from_str_radix(number, radix).ok().filter(|number| (200..600).contains(number));
    let status = number.and_then(|number| StatusCode::from_u16(number).ok());
    if status.is_none() {
        value.error(
            Problem::new("this is not the status of an answer", "must be from 200 to 599")
                .help(format!("write for example `{} = 404`", value.name)),
        );
    }
    status
}

fn answer(table: &mut Table<'_>, value: Value<'_>) -> Option<Action> {
    let body = table.take("body");
    let kind = table.take("type");
    let text_of_body = body.and_then(|body| body.string("body = \"down for maintenance\""));
    if let (Some(kind), None) = (kind, body) {
        let problem = Problem::new("`type` is the type of `body`, and there is none", "nothing to describe");
        kind.error(problem.help("add `body = \"…\"`, or take it out"));
    }
    let content_type = kind
        .and_then(text("\"text/html; charset=utf-8\"", content_type))
        .unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
    let status = status(value)?;
    if matches!(status.as_u16(), 301..=303 | 307 | 308) {
        let problem = Problem::new(format!("an answer {} needs a target", status.as_u16()), "a redirect");
        value.error(problem.help(format!("write `redirect = \"https://…\", status = {}`", status.as_u16())));
    }
    if let (Some(body), 204 | 205 | 304) = (body, status.as_u16()) {
        body.error(
            Problem::new(format!("an answer {} has no body", status.as_u16()), "cannot be sent")
                .help("take it out, or write `answer = 200`"),
        );
    }
    Some(Action::Answer { status, body: text_of_body.map(Into::into), content_type })
}

fn content_type(text: &str) -> Result<HeaderValue, Problem> {
    let kind = text.split(';').next().unwrap_or_default().trim();
    match kind.split_once('/') {
        Some((class, name)) if !class.is_empty() && !name.is_empty() && !kind.contains(' ') => {
            headers::content(text)
        }
        _ => Err(Problem::new(format!("{} is not a content type", show(text)), "needs a `/`")
            .help("write for example `type = \"text/html; charset=utf-8\"`")),
    }
}
