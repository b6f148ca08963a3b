//! Clients that send requests as their plans say, and tell what they have seen.

use std::time::Duration;

use fastrand::Rng;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{
    plan::{Account, Client, Framing, Plan, Seen},
    stream::{Reader, chunked},
};
use crate::fixtures::{Target, ms, pass};

/// No response takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends some requests one behind the other on one connection of HTTP/1.1, and reads their responses in order.
pub async fn pipelined(target: &Target, account: &Account, ids: &[usize], random: &mut Rng) {
    let Target::Tcp(address) = target else { panic!("needs plain TCP") };
    let stream = TcpStream::connect(address).await.expect("the proxy accepts");
    let (read, mut write) = stream.into_split();
    let mut reader = Reader::new(read);
    let plans: Vec<&Plan> = ids.iter().map(|id| &account.plans[*id]).collect();
    let sizes: Vec<_> = plans.iter().map(|_| random.usize(1..100_000)).collect();
    let sending = async {
        for (plan, size) in plans.iter().zip(&sizes) {
            // Whatever stops the sending side shows in what is received.
            if !send(&mut write, plan, *size).await {
                return;
            }
        }
    };
    let receiving = async {
        // Who closes the sending side has left for all its requests.
        let leaves = plans.iter().any(|plan| plan.client == Client::LeavesUploading);
        let mut has_ended = false;
        for plan in &plans {
            let (seen, goes_on) =
                if has_ended { (Seen::Nothing, false) } else { receive(&mut reader, plan).await };
            account.seen(plan.id, seen, has_ended || leaves);
            has_ended |= !goes_on;
        }
    };
    // A response may be there before its request is sent whole, and the rest of that is nobody's then.
    tokio::select! {
        () = async { tokio::join!(sending, std::future::pending::<()>()); } => {}
        () = receiving => {}
    }
}

/// Sends a request; false where the client leaves or the connection has ended.
async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), plan: &Plan, size: usize) -> bool {
    let mut head = format!("{} /{} HTTP/1.1\r\nHost: localhost\r\n", plan.method, plan.id);
    let body = match plan.framing {
        _ if plan.body.is_empty() => Vec::new(),
        Framing::Chunked => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            chunked(&plan.body, size)
        }
        Framing::Length | Framing::Close => {
            head.push_str(&format!("Content-Length: {}\r\n", plan.body.len()));
            plan.body.clone()
        }
    };
    if plan.expects {
        head.push_str("Expect: 100-continue\r\n");
    }
    head.push_str("\r\n");
    if write.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    if plan.expects {
        // As curl does that does not wait for ever.
        pass(ms(20)).await;
    }
    if plan.client == Client::LeavesUploading {
        let _ = write.write_all(&body[..body.len() / 2]).await;
        let _ = write.shutdown().await;
        return false;
    }
    if plan.client == Client::IsSlow {
        for part in body.chunks(body.len() / 3 + 1) {
            pass(ms(15)).await;
            if write.write_all(part).await.is_err() {
                return false;
            }
        }
        return true;
    }
    write.write_all(&body).await.is_ok()
}

/// Receives a response, and whether the connection goes on.
async fn receive(reader: &mut Reader<tokio::net::tcp::OwnedReadHalf>, plan: &Plan) -> (Seen, bool) {
    let received = timeout(PATIENCE, async {
        let head = loop {
            let head = match reader.head().await {
                Ok(head) => head,
                Err(_) => return (Seen::Nothing, false),
            };
            if !head.first.contains(" 100 ") && !head.first.contains(" 103 ") {
                break head;
            }
        };
        let status = head.first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        if plan.client == Client::LeavesDownloading {
            return (Seen::Part { status }, false);
        }
        let closes = head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if plan.method == "HEAD" {
            return (Seen::Whole { status, body: Vec::new() }, !closes);
        }
        match reader.body(&head, true).await {
            Ok(body) => (Seen::Whole { status, body }, !closes),
            Err(_) => (Seen::Part { status }, false),
        }
    });
    received
        .await
        .unwrap_or_else(|_| panic!("no response within {PATIENCE:?} to {} {}", plan.method, plan.id))
}

/// Sends some requests at the same time on one connection of HTTP/2.
pub async fn over_h2(target: &Target, account: &Account, ids: &[usize]) {
    let connection = target.connect().await.expect("the proxy accepts");
    let requests: Vec<_> = ids
        .iter()
        .map(|id| {
            let plan = &account.plans[*id];
            let request = connection.get(&format!("/{id}")).method(plan.method).body(plan.body.clone());
            (plan, connection.spawn(request))
        })
        .collect();
    for (plan, request) in requests {
        let leaves = matches!(plan.client, Client::LeavesUploading | Client::LeavesDownloading);
        if leaves {
            pass(ms(5)).await;
            request.abort();
        }
        let seen = match timeout(PATIENCE, request).await.expect("a response in time") {
            Ok(Ok(answer)) => Seen::Whole { status: answer.status, body: answer.body.to_vec() },
            Ok(Err(_)) | Err(_) => Seen::Nothing,
        };
        account.seen(plan.id, seen, false);
    }
}
