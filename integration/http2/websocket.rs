//! WebSocket over HTTP/2 (RFC 8441).

use super::before;
use crate::fixtures::{
    Backend, End, Frames, Wire,
    frames::{self, DATA, END_STREAM, HEADERS, headers, reset},
};

const CONNECT: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/chat?room=1"),
    ("sec-websocket-version", "13"),
];

/// A worker that accepts and repeats every byte.
async fn repeating() -> Backend {
    Backend::serving(|mut wire: Wire, heads| async move {
        let Some(head) = wire.head().await else { return };
        heads.lock().unwrap().push(head);
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n").await;
        loop {
            let byte = wire.read(1).await;
            if byte.is_empty() || wire.try_send(&byte).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn it_is_offered_and_passed_in_both_directions() {
    let app = repeating().await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    assert!(client.settings.contains(&(8, 1)), "SETTINGS_ENABLE_CONNECT_PROTOCOL");
    client.send(headers(1, 0, &CONNECT)).await;
    let answer = client.until(|frame| frame.kind == HEADERS).await;
    assert_eq!(answer.payload.iter().find(|byte| *byte & 0xe0 != 0x20), Some(&0x88), "200 in place of 101");
    for word in ["one", "two"] {
        client.send(frames::frame(DATA, 0, 1, word)).await;
        let mut came = Vec::new();
        while came.len() < word.len() {
            came.extend(client.until(|frame| frame.kind == DATA).await.payload);
        }
        assert_eq!(came, word.as_bytes());
    }
    let head = app.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /chat?room=1 http/1.1\r\n"), "{head}");
    for field in
        ["upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: "]
    {
        assert!(head.contains(field), "{field} is not in\n{head}");
    }
    // The end of one side is that of the tunnel.
    client.send(frames::frame(DATA, END_STREAM, 1, "")).await;
    assert_eq!(client.end_of(1).await, End::Answer(0, Vec::new()));
    soon_eq!(proxy.servers().await[0]["streams"], 0);
}

#[tokio::test]
async fn a_client_that_resets_it_ends_it() {
    let app = repeating().await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(headers(1, 0, &CONNECT)).await;
    client.until(|frame| frame.kind == HEADERS).await;
    soon_eq!(proxy.servers().await[0]["streams"], 1);
    client.send(reset(1)).await;
    soon_eq!(proxy.servers().await[0]["streams"], 0);
    assert_eq!(client.ask(3, frames::get(3, "/")).await.status(), Some(502), "the connection goes on");
}

#[tokio::test]
async fn a_worker_that_refuses_is_heard() {
    let app = Backend::answering(|_| b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno".to_vec()).await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    assert_eq!(client.ask(1, headers(1, 0, &CONNECT)).await, End::Answer(403, b"no".into()));
}

#[tokio::test]
async fn other_tunnels_are_not_made() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let connect = [(":method", "CONNECT"), (":authority", "localhost:22")];
    assert_eq!(client.ask(1, headers(1, 0, &connect)).await.status(), Some(501));
    let mut other = CONNECT;
    other[1].1 = "connect-udp";
    assert_eq!(client.ask(3, headers(3, 0, &other)).await.status(), Some(501));
    assert!(app.heads().is_empty());
}
