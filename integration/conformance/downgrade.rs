//! Requests of HTTP/2 as workers get them, in HTTP/1.1: nothing that a client of HTTP/2 may write makes two requests
//! of one, or a request that two programs could read in two ways.

use std::sync::{Arc, Mutex};

use crate::fixtures::{
    Backend, End, Frames, Proxy,
    frames::{DATA, END_STREAM, frame, headers},
};

mod cases;

/// What is to become of a request.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// The worker gets it with this first line, and with (or, after `!`, without) these lines in its head.
    Reaches(&'static str, &'static [&'static str]),
    /// It is refused, and no worker sees a whole request.
    Refused,
    /// It is refused; the worker may have got a request without a body before that came.
    Harmless,
}

/// A request: its fields, the data that follow, and what is to become of it.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub fields: Vec<(&'static str, String)>,
    pub body: Option<&'static str>,
    pub expected: Expected,
}

/// A request, head and body, or what is wrong with it.
type Recorded = Result<(String, Vec<u8>), String>;

/// A worker that takes nothing but well-formed requests, and records them.
struct Recorder {
    app: Backend,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    async fn start() -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&requests);
        let app = Backend::serving(move |mut wire, _| {
            let requests = Arc::clone(&recorded);
            async move {
                while let Some(head) = wire.head().await {
                    let request = match framing(&head) {
                        Err(wrong) => Err(format!("{wrong}: {head:?}")),
                        Ok(Framing::Length(length)) => {
                            let body = wire.read(length).await;
                            if body.len() < length {
                                return;
                            }
                            Ok((head, body))
                        }
                        Ok(Framing::Chunked) => {
                            let fields = [("transfer-encoding", "chunked")];
                            let fields = fields.iter().map(|(name, value)| {
                                (name.parse().expect("a name"), value.parse().expect("a value"))
                            });
                            Ok((head, wire.body(200, &fields.collect()).await))
                        }
                    };
                    let is_good = request.is_ok();
                    requests.lock().unwrap().push(request);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if !is_good || wire.try_send(answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { app, requests }
    }

    fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Where the body of a request ends, as the strictest reader of RFC 9112 would have it.
fn framing(head: &str) -> Result<Framing, &'static str> {
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err("the request line") };
    if !is_token(method) {
        return Err("the method");
    }
    let is_visible = |byte: u8| (0x21..=0x7e).contains(&byte) || byte >= 0x80;
    if !(target.starts_with('/') || target == "*" && method == "OPTIONS") || !target.bytes().all(is_visible) {
        return Err("the target");
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err("a line without a colon") };
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name) || value.chars().any(|char| char.is_control() && char != '\t') {
            return Err("a field");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.parse::<usize>().map_err(|_| "the length")?),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => codings += 1,
            "transfer-encoding" => return Err("the coding"),
            name if name.starts_with(':') => return Err("a pseudo field"),
            _ => {}
        }
    }
    match (hosts, &lengths[..], codings) {
        (1, [], 0) => Ok(Framing::Length(0)),
        (1, [length], 0) => Ok(Framing::Length(*length)),
        (1, [], 1) => Ok(Framing::Chunked),
        (1, ..) => Err("two ways to end the body"),
        _ => Err("not one Host"),
    }
}

#[tokio::test]
async fn a_request_of_http_2_is_one_request_of_http_1_1_or_none() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::to([recorder.app.address()]).secure().start().await;
    let cases = cases::all();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let mut ends = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut client = Frames::to(&proxy.h2()).await;
        let number = number.to_string();
        let fields = case.fields.iter().map(|(name, value)| (*name, &**value));
        let fields: Vec<(&str, &str)> = fields.chain([("x-case", &*number)]).collect();
        let mut request = headers(1, if case.body.is_some() { 0 } else { END_STREAM }, &fields);
        if let Some(body) = case.body {
            request.extend(frame(DATA, END_STREAM, 1, body));
        }
        ends.push(client.ask(1, request).await);
    }
    let mut reached = recorder.take();
    let mut wrong = Vec::new();
    for (number, (case, end)) in cases.iter().zip(ends).enumerate() {
        let line = format!("x-case: {number}");
        let is_its = |request: &Recorded| matches!(request, Ok((head, _)) if head.split("\r\n").any(|other| other == line));
        let its: Vec<Recorded> = reached.extract_if(.., |request| is_its(request)).collect();
        if let Err(why) = judge(case, &end, &its) {
            wrong.push(format!("{}: {why}\n   {end:?}\n   {its:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(reached.is_empty(), "nobody sent these: {reached:?}");
}

fn judge(case: &Case, end: &End, reached: &[Recorded]) -> Result<(), String> {
    match (case.expected, end, reached) {
        (Expected::Refused, End::Answer(400..=499 | 501, _) | End::Reset(_) | End::GoAway(_), []) => Ok(()),
        (Expected::Harmless, End::Answer(400..=499, _) | End::Reset(_) | End::GoAway(_), reached) => {
            match reached {
                [] => Ok(()),
                [Ok((_, body))] if body.is_empty() => Ok(()),
                _ => Err("more than a request without a body".into()),
            }
        }
        (Expected::Refused | Expected::Harmless, ..) => Err("should be refused and reach nobody".into()),
        (Expected::Reaches(line, fields), End::Answer(200, _), [Ok((head, body))]) => {
            let lines: Vec<String> = head.split("\r\n").map(str::to_ascii_lowercase).collect();
            if !head.starts_with(&format!("{line} HTTP/1.1\r\n")) {
                return Err("another first line".into());
            }
            if String::from_utf8_lossy(body) != case.body.unwrap_or_default() {
                return Err("another body".into());
            }
            for field in fields {
                let (wanted, field) = field.strip_prefix('!').map_or((true, *field), |field| (false, field));
                if lines.iter().any(|line| line.starts_with(field)) != wanted {
                    return Err(format!("{field:?} is there: {}", !wanted));
                }
            }
            Ok(())
        }
        (Expected::Reaches(..), ..) => Err("should reach the worker, once and well-formed".into()),
    }
}
