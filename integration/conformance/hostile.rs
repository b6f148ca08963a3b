//! Answers that no server should give: the client gets a 502, or a whole answer, or sees that it was broken off; never
//! what looks whole and is not, never fields that the server has smuggled into its own, and never a part of one answer in
//! the next one.

mod rows;

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::strict::{self, Bad};
use crate::fixtures::{Proxy, SOON, Target, within};
use rows::rows;

/// The request behind each row: its answer must be its own.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// The body of the answer to it.
const ITS_OWN: &str = "its own";

/// What a server says, and what the client gets of it.
struct Row {
    name: String,
    method: &'static str,
    answer: Vec<u8>,
    /// Whether the server closes its side then.
    closes: bool,
    expect: Expect,
}

/// What the client gets.
#[derive(Debug, Clone, PartialEq)]
enum Expect {
    /// A 502 of ours.
    BadGateway,
    /// This status and body, whole.
    Whole(u16, Vec<u8>),
    /// A beginning at most, and the end of the connection.
    BrokenOff,
    /// A 502, or a beginning: as much as was passed on by then.
    BadGatewayOrBrokenOff,
}

/// A server that gives the answers of the table: `/7` is answered with the seventh.
struct Server {
    address: String,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(rows: Arc<Vec<Row>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&rows)));
            }
        });
        Self { address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, rows: Arc<Vec<Row>>) {
    let mut bytes = Vec::new();
    loop {
        match strict::request(&bytes) {
            Ok(request) => {
                bytes.drain(..request.length);
                let row = request.word(1)[1..].parse().ok().and_then(|number: usize| rows.get(number));
                let own = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ITS_OWN}", ITS_OWN.len());
                let answer = row.map_or(own.as_bytes(), |row| &row.answer);
                // The proxy may have had enough.
                let sent = stream.write_all(answer).await;
                if sent.is_err() || row.is_some_and(|row| row.closes) {
                    return;
                }
            }
            Err(Bad::Malformed(why)) => panic!("{why}"),
            Err(Bad::Incomplete) => {
                if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                    return;
                }
            }
        }
    }
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    /// HTTP/1.1, with another request behind the first.
    Pipelines,
    /// The same, and the first asks for a WebSocket.
    Switches,
    /// HTTP/1.0, where the end of an answer may be that of its connection.
    Old,
}

/// All that comes back for a row, and whether its end was a good one.
async fn exchange(target: &Target, row: &Row, number: usize, client: Client) -> (Vec<u8>, bool) {
    let Target::Tcp(address) = target else { panic!("not tcp") };
    let mut stream = TcpStream::connect(address).await.expect("the proxy accepts");
    let request = match client {
        Client::Pipelines => format!("{} /{number} HTTP/1.1\r\nHost: x\r\n\r\n{NEXT}", row.method),
        Client::Switches => format!(
            "{} /{number} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{NEXT}",
            row.method
        ),
        Client::Old => format!("{} /{number} HTTP/1.0\r\nHost: x\r\n\r\n", row.method),
    };
    stream.write_all(request.as_bytes()).await.expect("the proxy reads");
    let mut back = Vec::new();
    let end = within(SOON, &format!("the end of {}", row.name), stream.read_to_end(&mut back)).await;
    (back, end.is_ok())
}

/// What the client has got, by the letter; what is wrong with it otherwise.
fn judge(row: &Row, client: Client, back: &[u8], ends_well: bool) -> Result<(), String> {
    let mut rest = back;
    let first = loop {
        match strict::answer(rest, row.method) {
            Ok(answer) if answer.status() < 200 && client == Client::Old => {
                return Err("an interim answer".into());
            }
            Ok(answer) if answer.status() < 200 => rest = &rest[answer.length..],
            Ok(answer) if answer.until_close && client != Client::Old => {
                return Err("its end is that of the connection, whatever that means".into());
            }
            // Only a reset tells here that something is missing.
            Ok(answer) if answer.until_close && !ends_well => break None,
            Ok(answer) => {
                rest = &rest[answer.length..];
                break Some(answer);
            }
            Err(Bad::Incomplete) => break None,
            Err(Bad::Malformed(why)) => return Err(why),
        }
    };
    let Some(answer) = first else {
        let allowed = matches!(row.expect, Expect::BrokenOff | Expect::BadGatewayOrBrokenOff);
        return if allowed { Ok(()) } else { Err("broken off".into()) };
    };
    if let Some((name, _)) = answer.fields.iter().find(|(name, _)| name.starts_with("x-evil")) {
        return Err(format!("a field from nowhere: {name}"));
    }
    match &row.expect {
        Expect::BadGateway | Expect::BadGatewayOrBrokenOff if answer.status() == 502 => {}
        Expect::Whole(status, body) if answer.status() == *status && answer.body == *body => {}
        _ => return Err(format!("{} with {:?}", answer.line, String::from_utf8_lossy(&answer.body))),
    }
    if client == Client::Old || answer.get("connection") == Some("close") {
        return if rest.is_empty() { Ok(()) } else { Err("something behind the last answer".into()) };
    }
    match strict::answer(rest, "GET") {
        Ok(next) if next.body == ITS_OWN.as_bytes() && next.length == rest.len() => Ok(()),
        other => Err(format!("the next request got {other:?}")),
    }
}

async fn hold(client: Client) {
    let rows = Arc::new(rows());
    let server = Server::start(Arc::clone(&rows)).await;
    let proxy = Proxy::to([&server.address]).with("read_timeout = \"1s\"").start().await;
    let target = proxy.target();
    let mut wrong = Vec::new();
    let switches = |row: &Row| row.answer.starts_with(b"HTTP/1.1 101");
    let asked = rows.iter().enumerate().filter(|(_, row)| client != Client::Switches || !switches(row));
    for (number, row) in asked {
        let (back, ends_well) = exchange(&target, row, number, client).await;
        let why = judge(row, client, &back, ends_well).err();
        wrong.extend(
            why.map(|why| format!("{}: {why} for {:?} in {}", row.name, row.expect, back.escape_ascii())),
        );
        // What others get on connections of their own is theirs.
        let other = target.get("/other").await;
        assert_eq!((other.status, other.text().as_str()), (200, ITS_OWN), "after {}", row.name);
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 60, "{} rows", rows.len());
}

#[tokio::test]
async fn no_answer_is_passed_off_as_another() {
    hold(Client::Pipelines).await;
}

#[tokio::test]
async fn no_answer_is_passed_off_as_another_to_a_client_of_http_1_0() {
    hold(Client::Old).await;
}

#[tokio::test]
async fn no_answer_is_passed_off_as_another_to_a_client_that_asks_for_a_websocket() {
    hold(Client::Switches).await;
}
