//! HTTP/2 (RFC 9113): each test is named by the section that it is about.

use crate::fixtures::{
    Backend, End, Frames, Proxy,
    frames::{
        ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
        FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
        MAX_HEADER_LIST_SIZE, NO_ERROR, PADDED, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE,
        RST_STREAM, SETTINGS, STREAM_CLOSED, WEIGHED, WINDOW_UPDATE, block, fields, frame, get, headers,
        post, reset, settings, window,
    },
};

/// A proxy for HTTP/2 before a worker that says ok.
struct Server {
    proxy: Proxy,
    app: Backend,
}

async fn server() -> Server {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).secure().start().await;
    Server { proxy, app }
}

fn ok() -> End {
    End::Answer(200, b"ok".into())
}

impl Server {
    async fn client(&self) -> Frames {
        Frames::to(&self.proxy.h2()).await
    }

    /// These bytes end the connection with this error, or with the one that the h2 crate has for all, and reach nobody.
    #[track_caller]
    fn ends(&self, bytes: Vec<u8>, code: u32) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let before = self.app.heads().len();
            let mut client = self.client().await;
            client.send(bytes).await;
            let end = client.end().await;
            assert!(end == End::GoAway(code) || end == End::GoAway(PROTOCOL_ERROR), "{place}: {end:?}");
            assert_eq!(self.app.heads().len(), before, "{place}");
        }
    }

    /// These bytes end stream 1 with this error, and the connection goes on.
    #[track_caller]
    fn resets(&self, bytes: Vec<u8>, code: u32) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let mut client = self.client().await;
            client.send(bytes).await;
            assert_eq!(client.end_of(1).await, End::Reset(code), "{place}");
            assert_eq!(client.ask(101, get(101, "/after")).await, ok(), "{place}");
        }
    }

    /// These bytes are no request: their stream is reset, or their connection ends.
    #[track_caller]
    fn refuses(&self, bytes: Vec<u8>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let mut client = self.client().await;
            client.send(bytes).await;
            let end = client.end_of(1).await;
            let is_refused = matches!(end, End::Reset(PROTOCOL_ERROR) | End::GoAway(PROTOCOL_ERROR));
            assert!(is_refused, "{place}: {end:?}");
        }
    }

    /// These bytes harm nobody.
    #[track_caller]
    fn ignores(&self, bytes: Vec<u8>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let mut client = self.client().await;
            client.send(bytes).await;
            assert_eq!(client.ask(101, get(101, "/after")).await, ok(), "{place}");
        }
    }
}

/// A request whose head is in these fields and nothing else.
fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, END_STREAM, fields)
}

/// A good request with these fields more.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    request(&[&fields("GET", "/")[..], more].concat())
}

#[tokio::test]
async fn section_3_4_both_sides_begin_with_settings() {
    let server = server().await;
    let mut client = Frames::silent(&server.proxy.h2()).await;
    client.send([PREFACE, &settings(&[])].concat()).await;
    let first = client.next().await.unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    client.until(|frame| frame.kind == SETTINGS && frame.flags == ACK).await;
}

#[tokio::test]
async fn section_3_4_another_preface_ends_the_connection() {
    let server = server().await;
    for preface in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut client = Frames::silent(&server.proxy.h2()).await;
        client.send(preface).await;
        assert!(client.closes(crate::fixtures::SOON).await.is_some());
    }
    assert!(server.app.heads().is_empty());
}

#[tokio::test]
async fn section_4_1_unknown_frames_and_flags_are_ignored() {
    let server = server().await;
    server.ignores(frame(0x16, 0xff, 0, "unknown")).await;
    server.ignores(frame(0x16, 0, 1, "unknown")).await;
    server.ignores(frame(PING, 0xfe, 0, [0; 8])).await;
    let mut reserved = frame(PING, 0, 0, [0; 8]);
    reserved[5] = 0x80;
    server.ignores(reserved).await;
}

#[tokio::test]
async fn section_4_2_frames_are_as_large_as_was_said_at_most() {
    let server = server().await;
    let mut client = server.client().await;
    let most = client.settings.iter().find(|(name, _)| *name == MAX_FRAME_SIZE).unwrap().1 as usize;
    client.send(post(1, "/")).await;
    assert_eq!(client.ask(1, frame(DATA, END_STREAM, 1, vec![b'x'; most])).await, ok());
    client.send(post(3, "/")).await;
    client.send(frame(DATA, END_STREAM, 3, vec![b'x'; most + 1])).await;
    assert_eq!(client.end().await, End::GoAway(FRAME_SIZE_ERROR));
    server_of_none(|server| async move {
        server.ends(frame(HEADERS, END_HEADERS, 1, vec![0x82; most + 1]), FRAME_SIZE_ERROR).await;
    })
    .await;
}

/// The same with a new server, whose worker has been asked for nothing.
async fn server_of_none<F: Future<Output = ()>>(test: impl FnOnce(Server) -> F) {
    test(server().await).await;
}

#[tokio::test]
async fn section_4_3_a_head_that_cannot_be_decoded_ends_the_connection() {
    let server = server().await;
    // No such index; the rest of a literal is missing; a table larger than was offered.
    for block in [&[0xff, 0xff, 0x7f][..], &[0x40, 0x0a, b'x'], &[0x3f, 0xe1, 0xff, 0x03]] {
        server.ends(frame(HEADERS, END_HEADERS | END_STREAM, 1, block), COMPRESSION_ERROR).await;
    }
}

#[tokio::test]
async fn section_4_3_nothing_comes_between_the_parts_of_a_head() {
    let server = server().await;
    let (first, rest) = (block(&fields("GET", "/")), block(&[("x", "y")]));
    let begun = frame(HEADERS, END_STREAM, 1, &first);
    for between in [
        frame(PING, 0, 0, [0; 8]),
        frame(DATA, 0, 1, ""),
        frame(0x16, 0, 0, ""),
        headers(3, END_STREAM, &fields("GET", "/")),
        frame(CONTINUATION, END_HEADERS, 3, &rest),
    ] {
        server.ends([&begun[..], &between].concat(), PROTOCOL_ERROR).await;
    }
    let mut client = server.client().await;
    let whole = [&begun[..], &frame(CONTINUATION, 0, 1, &rest), &frame(CONTINUATION, END_HEADERS, 1, &rest)];
    assert_eq!(client.ask(1, whole.concat()).await, ok());
}

#[tokio::test]
async fn section_5_1_idle_streams_take_nothing_but_heads() {
    let server = server().await;
    for bytes in [frame(DATA, 0, 1, "x"), reset(1), window(1, 1)] {
        server.ends(bytes, PROTOCOL_ERROR).await;
    }
    server.ends(frame(CONTINUATION, END_HEADERS, 1, block(&fields("GET", "/"))), PROTOCOL_ERROR).await;
    server.ignores(frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])).await;
}

#[tokio::test]
async fn section_5_1_a_side_that_has_ended_sends_no_more() {
    let server = server().await;
    for more in [frame(DATA, 0, 1, "x"), headers(1, END_STREAM, &[("x", "y")])] {
        let mut client = server.client().await;
        client.send([&get(1, "/")[..], &more].concat()).await;
        let end = client.end_of(1).await;
        assert!(
            matches!(end, End::Reset(STREAM_CLOSED) | End::GoAway(STREAM_CLOSED | PROTOCOL_ERROR))
                || end == ok(),
            "{end:?}"
        );
        if end == ok() {
            // The answer was quicker; the error comes all the same.
            let frame = client.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY)).await;
            assert!(matches!(crate::fixtures::frames::code(&frame), STREAM_CLOSED | PROTOCOL_ERROR));
        }
    }
}

#[tokio::test]
async fn section_5_1_closed_streams_take_what_was_on_its_way() {
    let server = server().await;
    let mut client = server.client().await;
    assert_eq!(client.ask(1, get(1, "/")).await, ok());
    client.send([window(1, 10), reset(1), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])].concat()).await;
    assert_eq!(client.ask(3, get(3, "/")).await, ok());
}

#[tokio::test]
async fn section_5_1_1_numbers_of_streams_are_odd_and_grow() {
    let server = server().await;
    server.ends(get(2, "/"), PROTOCOL_ERROR).await;
    server.ends(get(0, "/"), PROTOCOL_ERROR).await;
    let mut client = server.client().await;
    assert_eq!(client.ask(5, get(5, "/")).await, ok());
    client.send(get(3, "/")).await;
    assert!(matches!(client.end().await, End::GoAway(PROTOCOL_ERROR | STREAM_CLOSED)));
}

#[tokio::test]
async fn section_5_2_windows_are_kept_to() {
    let app = Backend::silent().await;
    let proxy = Proxy::to([app.address()]).with("max_requests = 1").secure().start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let first = client.settings.iter().find(|(name, _)| *name == INITIAL_WINDOW_SIZE).unwrap().1;
    client.send(get(1, "/")).await;
    soon_eq!(proxy.inflight().await, [1]);
    // Nobody reads the body of a request that waits.
    client.send(post(3, "/")).await;
    soon_eq!(proxy.waiting().await, 1);
    for _ in 0..first / (16 << 10) {
        client.send(frame(DATA, 0, 3, [0; 16 << 10])).await;
    }
    client.send(frame(DATA, 0, 3, "x")).await;
    assert!(matches!(
        client.end_of(3).await,
        End::Reset(FLOW_CONTROL_ERROR) | End::GoAway(FLOW_CONTROL_ERROR)
    ));
}

#[tokio::test]
async fn section_5_3_priorities_are_ignored() {
    let server = server().await;
    let weighed = [&[0, 0, 0, 0, 15][..], &block(&fields("GET", "/"))].concat();
    let mut client = server.client().await;
    let flags = WEIGHED | END_HEADERS | END_STREAM;
    assert_eq!(client.ask(1, frame(HEADERS, flags, 1, weighed)).await, ok());
    server.ignores(frame(PRIORITY, 0, 7, [0, 0, 0, 3, 200])).await;
    server.ends(frame(PRIORITY, 0, 1, [0, 0, 0, 3]), FRAME_SIZE_ERROR).await;
}

#[tokio::test]
async fn section_6_1_data() {
    let server = server().await;
    server.ends(frame(DATA, 0, 0, "x"), PROTOCOL_ERROR).await;
    let mut client = server.client().await;
    client.send([post(1, "/"), frame(DATA, PADDED, 1, [5, 1, 2])].concat()).await;
    assert_eq!(client.end().await, End::GoAway(PROTOCOL_ERROR), "more padding than there is");
}

#[tokio::test]
async fn section_6_2_headers() {
    let server = server().await;
    let head = block(&fields("GET", "/"));
    server.ends(frame(HEADERS, END_HEADERS | END_STREAM, 0, &head), PROTOCOL_ERROR).await;
    let padded = [&[200][..], &head].concat();
    server.ends(frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, padded), PROTOCOL_ERROR).await;
    let padded = [&[3][..], &head, &[0; 3]].concat();
    let mut client = server.client().await;
    assert_eq!(client.ask(1, frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, padded)).await, ok());
}

#[tokio::test]
async fn section_6_3_priority() {
    server().await.ends(frame(PRIORITY, 0, 0, [0, 0, 0, 0, 1]), PROTOCOL_ERROR).await;
}

#[tokio::test]
async fn section_6_4_rst_stream() {
    let server = server().await;
    server.ends(frame(RST_STREAM, 0, 0, [0, 0, 0, 8]), PROTOCOL_ERROR).await;
    server.ends(frame(RST_STREAM, 0, 1, [0, 0, 0]), FRAME_SIZE_ERROR).await;
}

#[tokio::test]
async fn section_6_5_settings() {
    let server = server().await;
    server.ends(frame(SETTINGS, 0, 1, ""), PROTOCOL_ERROR).await;
    server.ends(frame(SETTINGS, 0, 0, [0; 5]), FRAME_SIZE_ERROR).await;
    server.ends(frame(SETTINGS, ACK, 0, [0; 6]), FRAME_SIZE_ERROR).await;
    let mut client = server.client().await;
    client.send(settings(&[])).await;
    client.until(|frame| frame.kind == SETTINGS && frame.flags == ACK).await;
}

#[tokio::test]
async fn section_6_5_2_values_of_settings() {
    let server = server().await;
    server.ends(settings(&[(2, 2)]), PROTOCOL_ERROR).await;
    server.ends(settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), FLOW_CONTROL_ERROR).await;
    server.ends(settings(&[(MAX_FRAME_SIZE, 16_383)]), PROTOCOL_ERROR).await;
    server.ends(settings(&[(MAX_FRAME_SIZE, 1 << 24)]), PROTOCOL_ERROR).await;
    server.ignores(settings(&[(0xffff, 7), (MAX_HEADER_LIST_SIZE, 100)])).await;
}

#[tokio::test]
async fn section_6_6_clients_promise_nothing() {
    let promise = [&[0, 0, 0, 2][..], &block(&fields("GET", "/"))].concat();
    server().await.ends(frame(PUSH_PROMISE, END_HEADERS, 1, promise), PROTOCOL_ERROR).await;
}

#[tokio::test]
async fn section_6_7_ping() {
    let server = server().await;
    let mut client = server.client().await;
    client.send(frame(PING, 0, 0, b"repeated")).await;
    let pong = client.until(|frame| frame.kind == PING).await;
    assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"repeated"[..]));
    server.ignores(frame(PING, ACK, 0, b"not ours")).await;
    server.ends(frame(PING, 0, 1, [0; 8]), PROTOCOL_ERROR).await;
    server.ends(frame(PING, 0, 0, [0; 7]), FRAME_SIZE_ERROR).await;
}

#[tokio::test]
async fn section_6_8_goaway() {
    let server = server().await;
    server.ends(frame(GOAWAY, 0, 1, [0; 8]), PROTOCOL_ERROR).await;
    let mut client = server.client().await;
    client.send([get(1, "/"), frame(GOAWAY, 0, 0, [0; 8])].concat()).await;
    assert_eq!(client.end_of(1).await, ok(), "who leaves gets its answers");
    assert!(matches!(client.end().await, End::GoAway(NO_ERROR) | End::Closed));
}

#[tokio::test]
async fn section_6_9_window_update() {
    let server = server().await;
    server.ends(window(0, 0), PROTOCOL_ERROR).await;
    server.ends(frame(WINDOW_UPDATE, 0, 0, [0; 3]), FRAME_SIZE_ERROR).await;
    let mut client = server.client().await;
    client.send([post(1, "/"), window(1, 0)].concat()).await;
    assert!(matches!(client.end_of(1).await, End::Reset(PROTOCOL_ERROR) | End::GoAway(PROTOCOL_ERROR)));
}

#[tokio::test]
async fn section_6_9_1_no_window_is_larger_than_possible() {
    let server = server().await;
    server.ends(window(0, 0x7fff_ffff), FLOW_CONTROL_ERROR).await;
    let mut client = server.client().await;
    client.send([post(1, "/"), window(1, 0x7fff_ffff)].concat()).await;
    assert_eq!(client.end_of(1).await, End::Reset(FLOW_CONTROL_ERROR));
    assert_eq!(client.ask(3, get(3, "/")).await, ok());
}

#[tokio::test]
async fn section_6_9_2_new_settings_change_windows_of_streams() {
    let server = server().await;
    let mut client = Frames::with(&server.proxy.h2(), &[(INITIAL_WINDOW_SIZE, 0)], 1 << 20).await;
    client.send(get(1, "/")).await;
    client.until(|frame| frame.kind == HEADERS).await;
    assert_eq!(client.next_within(crate::fixtures::ms(100)).await, None, "there is no room");
    client.send(settings(&[(INITIAL_WINDOW_SIZE, 1)])).await;
    assert_eq!(client.until(|frame| frame.kind == DATA).await.payload, b"o");
    client.send(settings(&[(INITIAL_WINDOW_SIZE, 2)])).await;
    assert_eq!(client.until(|frame| frame.kind == DATA).await.payload, b"k");
}

#[tokio::test]
async fn section_6_10_continuation_without_end_is_a_flood() {
    let server = server().await;
    let mut client = server.client().await;
    client.send(frame(HEADERS, END_STREAM, 1, block(&fields("GET", "/")))).await;
    for _ in 0..10_000 {
        if client.try_send(frame(CONTINUATION, 0, 1, block(&[("x", "y")]))).await.is_err() {
            break;
        }
    }
    let end = client.end().await;
    assert!(matches!(end, End::GoAway(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | End::Closed), "{end:?}");
    assert!(server.app.heads().is_empty());
}

#[tokio::test]
async fn section_8_1_a_body_has_one_head_before_it_and_trailers_at_its_end() {
    let server = server().await;
    let begun = [post(1, "/"), frame(DATA, 0, 1, "x")].concat();
    server.resets([&begun[..], &headers(1, 0, &[("x", "y")])].concat(), PROTOCOL_ERROR).await;
    // The h2 crate drops pseudo fields of trailers, which go no further here anyway.
    server.ignores([&begun[..], &headers(1, END_STREAM, &[(":path", "/")])].concat()).await;
}

#[tokio::test]
async fn section_8_1_1_the_length_is_that_of_the_data() {
    let server = server().await;
    let with_length = |length, flags| {
        headers(1, flags, &[&fields("POST", "/")[..], &[("content-length", length)]].concat())
    };
    server.resets(with_length("1", END_STREAM), PROTOCOL_ERROR).await;
    let too_much = [with_length("1", 0), frame(DATA, END_STREAM, 1, "xy")].concat();
    server.resets(too_much, PROTOCOL_ERROR).await;
    let too_little = [with_length("3", 0), frame(DATA, 0, 1, "x"), frame(DATA, END_STREAM, 1, "")].concat();
    server.resets(too_little, PROTOCOL_ERROR).await;
}

#[tokio::test]
async fn section_8_2_1_names_are_small_and_values_on_one_line() {
    let server = server().await;
    for (name, value) in [
        ("X-Upper", "y"),
        ("x y", "z"),
        ("x\0", "y"),
        ("x", "a\r\nb: c"),
        ("x", "a\0"),
        ("", "x"),
        ("x:", "y"),
    ] {
        let mut client = server.client().await;
        let end = client.ask(1, with(&[(name, value)])).await;
        assert!(
            matches!(end, End::Reset(PROTOCOL_ERROR) | End::GoAway(PROTOCOL_ERROR | COMPRESSION_ERROR)),
            "{name:?} {value:?}: {end:?}"
        );
    }
    for value in [" x", "x ", "\tx"] {
        let mut client = server.client().await;
        assert_eq!(client.ask(1, with(&[("x", value)])).await.status(), Some(400), "{value:?}");
    }
    assert!(server.app.heads().is_empty());
}

#[tokio::test]
async fn section_8_2_2_fields_of_connections_are_malformed() {
    let server = server().await;
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ] {
        let mut client = server.client().await;
        let end = client.ask(1, with(&[(name, value)])).await;
        assert!(end == End::Reset(PROTOCOL_ERROR) || end.status() == Some(400), "{name}: {end:?}");
    }
    assert!(server.app.heads().is_empty());
    let mut client = server.client().await;
    assert_eq!(client.ask(1, with(&[("te", "trailers")])).await, ok());
}

#[tokio::test]
async fn section_8_3_pseudo_fields_come_first_once_and_are_known() {
    let server = server().await;
    let [method, scheme, authority, path] = fields("GET", "/");
    server.refuses(request(&[method, scheme, authority, path, (":unknown", "x")])).await;
    server.refuses(request(&[method, scheme, authority, path, (":status", "200")])).await;
    server.refuses(request(&[method, scheme, ("x", "y"), authority, path])).await;
    for twice in [method, scheme, authority, path] {
        server.refuses(request(&[method, scheme, authority, path, twice])).await;
    }
}

#[tokio::test]
async fn section_8_3_1_requests_say_all_that_they_must() {
    let server = server().await;
    let [method, scheme, authority, path] = fields("GET", "/");
    server.resets(request(&[scheme, authority, path]), PROTOCOL_ERROR).await;
    server.resets(request(&[method, authority, path]), PROTOCOL_ERROR).await;
    server.resets(request(&[method, scheme, authority]), PROTOCOL_ERROR).await;
    server.resets(request(&[method, scheme, authority, (":path", "")]), PROTOCOL_ERROR).await;
    let mut client = server.client().await;
    assert_eq!(client.ask(1, request(&[method, scheme, path])).await.status(), Some(400), "whose?");
    let host = ("host", "localhost");
    assert_eq!(client.ask(3, headers(3, END_STREAM, &[method, scheme, path, host])).await, ok());
    assert_eq!(client.ask(5, headers(5, END_STREAM, &[method, scheme, authority, path, host])).await, ok());
    let other = ("host", "other");
    let end = client.ask(7, headers(7, END_STREAM, &[method, scheme, authority, path, other])).await;
    assert_eq!(end.status(), Some(400), "two names");
}

#[tokio::test]
async fn section_8_5_connect_has_neither_scheme_nor_path() {
    let server = server().await;
    let [_, scheme, authority, path] = fields("", "/");
    let method = (":method", "CONNECT");
    let mut client = server.client().await;
    for (number, fields) in [&[method, authority][..], &[method, scheme, authority, path]].iter().enumerate()
    {
        let stream = u32::try_from(2 * number + 1).unwrap();
        let end = client.ask(stream, headers(stream, END_STREAM, fields)).await;
        assert!(end == End::Reset(PROTOCOL_ERROR) || end.status() == Some(501), "{end:?}");
    }
    assert!(server.app.heads().is_empty());
}

#[tokio::test]
async fn section_9_2_1_tls_has_no_compression_and_a_good_version() {
    let server = server().await;
    let tls = crate::fixtures::Tls::only(&rustls::version::TLS12).h2();
    let mut client = Frames::to(&server.proxy.h2().under(tls)).await;
    assert_eq!(client.ask(1, get(1, "/")).await, ok());
}

#[tokio::test]
async fn section_10_5_1_a_head_has_a_limit() {
    let server = server().await;
    let mut client = server.client().await;
    let most = client.settings.iter().find(|(name, _)| *name == MAX_HEADER_LIST_SIZE).unwrap().1;
    assert_eq!(most, 64 << 10);
    let large = "x".repeat(2 << 10);
    let many: Vec<(&str, &str)> = (0..40).map(|_| ("x", &*large)).collect();
    assert_eq!(
        client
            .ask(1, {
                let all = [&fields("GET", "/")[..], &many].concat();
                let whole = block(&all);
                let (first, rest) = whole.split_at(16_000);
                let mut frames = frame(HEADERS, END_STREAM, 1, first);
                for part in rest.chunks(16_000) {
                    frames.extend(frame(CONTINUATION, 0, 1, part));
                }
                frames.extend(frame(CONTINUATION, END_HEADERS, 1, ""));
                frames
            })
            .await
            .status(),
        Some(431)
    );
    assert!(server.app.heads().is_empty());
}
