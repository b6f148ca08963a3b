//! Requests that two programs could read in two ways, and those beside them that are good: whatever reaches the upstream
//! is what was meant, by the [letter](super::strict), and the request that follows is never anything else than itself.

mod chunks;
mod framing;
mod heads;
mod sequences;

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{recorder::Recorder, strict};
use crate::fixtures::{Proxy, SOON, Target, within};

/// What follows every row on its connection, in the same breath.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// What must never be a request.
pub(super) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Bytes from a client, and what becomes of them.
struct Row {
    name: String,
    bytes: Vec<u8>,
    expect: Expect,
}

/// What becomes of a row.
#[derive(Clone)]
struct Expect {
    /// The statuses of the answers to it.
    answers: Vec<u16>,
    /// What the upstream gets: method, target and body.
    reaches: Vec<(String, String, String)>,
    then: Then,
}

/// What becomes of the request behind it.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// It is answered.
    Next,
    /// The connection is closed.
    Closed,
    /// The one or the other: it depends on what has come by then.
    Either,
}

/// It is answered so and the connection closed; nobody else hears of it.
fn refused(status: u16) -> Expect {
    Expect { answers: vec![status], reaches: Vec::new(), then: Then::Closed }
}

/// It is answered so, by ourselves, and the connection goes on.
fn answered(status: u16) -> Expect {
    Expect { answers: vec![status], reaches: Vec::new(), then: Then::Next }
}

/// It reaches the upstream as these requests.
fn passes<const N: usize>(requests: [(&str, &str, &str); N]) -> Expect {
    let owned = |(method, target, body): (&str, &str, &str)| (method.into(), target.into(), body.into());
    Expect { answers: vec![200; N], reaches: requests.map(owned).into(), then: Then::Next }
}

impl Expect {
    /// The connection closes behind it all the same.
    fn and_closes(mut self) -> Self {
        self.then = Then::Closed;
        self
    }

    /// The connection may close behind it.
    fn and_may_close(mut self) -> Self {
        self.then = Then::Either;
        self
    }

    /// What follows within the row is refused.
    fn then_refused(mut self, status: u16) -> Self {
        self.answers.push(status);
        self.and_closes()
    }
}

fn row(name: impl Into<String>, bytes: impl AsRef<[u8]>, expect: Expect) -> Row {
    Row { name: name.into(), bytes: bytes.as_ref().to_vec(), expect }
}

/// A request with these fields and what follows them.
fn post(fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /r HTTP/1.1\r\nHost: x\r\n", fields.as_bytes(), b"\r\n\r\n", body.as_ref()].concat()
}

/// It reaches the upstream as a POST with this body.
fn reaches(body: &str) -> Expect {
    passes([("POST", "/r", body)])
}

fn rows() -> Vec<Row> {
    [heads::rows(), framing::rows(), chunks::rows(), sequences::rows()].into_iter().flatten().collect()
}

/// How the bytes come.
#[derive(Clone, Copy)]
enum Coming {
    AtOnce,
    OneByOne,
}

async fn proxy(recorder: &Recorder) -> Proxy {
    Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         \"/small\" = { proxy = \"app\", max_body = \"10b\" }\n\
         \"= /ours\" = { answer = 200, body = \"ours\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("SERVER", recorder.address())
    .start()
    .await
}

/// Sends a row and what follows it, and gives all that comes back until the connection ends.
async fn exchange(target: &Target, row: &Row, coming: Coming) -> Vec<u8> {
    let Target::Tcp(address) = target else { panic!("not tcp") };
    let stream = TcpStream::connect(address).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("an option");
    let (mut read, mut write) = stream.into_split();
    let bytes = [&row.bytes[..], NEXT.as_bytes()].concat();
    // Who is refused may be cut before all is sent.
    let writing = async {
        match coming {
            Coming::AtOnce => drop(write.write_all(&bytes).await),
            Coming::OneByOne => {
                for byte in bytes {
                    if write.write_all(&[byte]).await.is_err() {
                        break;
                    }
                }
            }
        }
        write
    };
    let mut back = Vec::new();
    let reading = async { read.read_to_end(&mut back).await };
    let (read, _write) =
        within(SOON, &format!("the end of {}", row.name), async { tokio::join!(reading, writing) }).await;
    assert!(read.is_ok(), "{}: {read:?} after {}", row.name, back.escape_ascii());
    back
}

/// What is wrong with what came of a row, if anything is.
fn judge(row: &Row, coming: Coming, back: &[u8], heard: &[strict::Message]) -> Option<String> {
    let Expect { answers, reaches, then } = &row.expect;
    let (mut rest, mut statuses, mut closes) = (back, Vec::new(), false);
    while !rest.is_empty() {
        let method = reaches.get(statuses.len()).map_or("GET", |(method, _, _)| method);
        let answer = match strict::answer(rest, method) {
            Ok(answer) if !answer.until_close => answer,
            other => return Some(format!("{other:?} in {}", back.escape_ascii())),
        };
        rest = &rest[answer.length..];
        if answer.status() >= 200 {
            statuses.push(answer.status());
            closes = answer.get("connection") == Some("close");
        }
    }
    let mut expected = answers.clone();
    let mut reach = reaches.clone();
    let goes_on = match (then, coming) {
        (Then::Next, _) => true,
        (Then::Either, _) => statuses.len() > answers.len(),
        (Then::Closed, _) => false,
    };
    if goes_on {
        expected.push(200);
        reach.push(("GET".into(), "/next".into(), String::new()));
    }
    if statuses != expected {
        return Some(format!("{statuses:?} for {expected:?}: {}", back.escape_ascii()));
    }
    if !closes {
        return Some(format!("it closes without a word: {}", back.escape_ascii()));
    }
    let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let latin = |(method, target, body): &(String, String, String)| {
        (text(method.as_bytes()), text(target.as_bytes()), text(body.as_bytes()))
    };
    let heard: Vec<_> = heard
        .iter()
        .map(|request| (request.word(0).to_owned(), request.word(1).to_owned(), text(&request.body)))
        .collect();
    let reach: Vec<_> = reach.iter().map(latin).collect();
    (heard != reach).then(|| format!("the upstream got {heard:?} for {reach:?}"))
}

async fn hold(coming: Coming, longest: usize) {
    let recorder = Recorder::start().await;
    let proxy = proxy(&recorder).await;
    let target = proxy.target();
    let mut wrong = Vec::new();
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.bytes.len() <= longest).collect();
    for row in &rows {
        let back = exchange(&target, row, coming).await;
        let why = match recorder.take() {
            Ok(heard) => judge(row, coming, &back, &heard),
            Err(no_request) => Some(format!("the upstream got {no_request}")),
        };
        wrong.extend(why.map(|why| format!("{}: {why}", row.name)));
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 300, "{} rows", rows.len());
}

#[tokio::test]
async fn nothing_ambiguous_goes_further() {
    hold(Coming::AtOnce, usize::MAX).await;
}

#[tokio::test]
async fn nothing_ambiguous_goes_further_one_byte_at_a_time() {
    hold(Coming::OneByOne, 2000).await;
}

/// What is put somewhere into a row.
const CRUMBS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x80",
    b":",
    b",",
    b";",
    b"0",
    b"1",
    b"f",
    b"+",
    b"/",
    b"#",
    b"@",
    b"chunked",
    b"Content-Length: 0\r\n",
    b"Content-Length: 7\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: y\r\n",
    b"Connection: Content-Length\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"HTTP/1.0",
    b"0\r\n\r\n",
    SMUGGLED.as_bytes(),
];

/// Changes a row at some places.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        let end = (at + rng.usize(1..20)).min(bytes.len());
        match rng.u8(..4) {
            0 => drop(bytes.splice(at..at, rng.choice(CRUMBS).expect("some").iter().copied())),
            1 => drop(bytes.splice(at..end, rng.choice(CRUMBS).expect("some").iter().copied())),
            2 => drop(bytes.drain(at..(at + 1).min(bytes.len()))),
            _ => bytes.extend_from_within(at..end),
        }
    }
}

#[tokio::test]
async fn whatever_becomes_of_a_row_what_goes_further_is_a_request_and_what_comes_back_an_answer() {
    let recorder = Recorder::start().await;
    let proxy = proxy(&recorder).await;
    let Target::Tcp(address) = proxy.target() else { panic!("not tcp") };
    // What HEAD is answered cannot be told from what was sent.
    let rows: Vec<Row> =
        rows().into_iter().filter(|row| row.bytes.len() < 2000 && !row.name.contains("HEAD")).collect();
    let mut rng = Rng::with_seed(0x5eed);
    for number in 0..3000 {
        let mut bytes = rng.choice(&rows).expect("some").bytes.clone();
        mutate(&mut rng, &mut bytes);
        if bytes.windows(4).any(|word| word == b"HEAD") {
            continue;
        }
        let told = || format!("{number}: {}", bytes.escape_ascii());
        let mut stream = TcpStream::connect(address).await.expect("the proxy accepts");
        // It may be cut before all is sent, and is waited for no longer than it has something to say.
        let _ = stream.write_all(&[&bytes[..], NEXT.as_bytes()].concat()).await;
        let _ = stream.shutdown().await;
        let mut back = Vec::new();
        let _ = within(SOON, &told(), stream.read_to_end(&mut back)).await;
        let mut rest = &back[..];
        while !rest.is_empty() {
            match strict::answer(rest, "GET") {
                Ok(answer) => rest = &rest[answer.length..],
                // Who closes its side has left.
                Err(strict::Bad::Incomplete) => break,
                Err(strict::Bad::Malformed(why)) => panic!("{why} in {} for {}", back.escape_ascii(), told()),
            }
        }
        if let Err(wrong) = recorder.take() {
            panic!("the upstream got {wrong} for {}", told());
        }
    }
}

#[test]
fn names_of_rows_are_their_own() {
    let mut names: Vec<String> = rows().into_iter().map(|row| row.name).collect();
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
