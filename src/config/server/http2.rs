//! `[server.http2]`: limits of HTTP/2 connections.

use crate::config::{
    keys::{
        Defaulted, Is, Key, Keys,
        kind::{Bytes, Integer},
    },
    print::Pairs,
    read::{Context, Table, Value},
};

/// `[server.http2]`: limits of one connection. Counts are per ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2 {
    /// Concurrent requests (RFC 9113 §5.1.2).
    pub max_concurrent_streams: u32,
    /// Flow-control window of one request's body in bytes (§5.2).
    pub stream_window: u32,
    /// Flow-control window of all request bodies of the connection in bytes (§5.2).
    pub connection_window: u32,
    /// Bytes of a request's headers, each counted with 32 more (§6.5.2).
    pub max_header_list: u32,
    /// Streams that the client resets.
    pub max_resets: u32,
    /// PING frames.
    pub max_pings: u32,
    /// SETTINGS frames.
    pub max_settings: u32,
    /// Frames without content, and PRIORITY frames.
    pub max_empty_frames: u32,
}

/// The keys of `[server.http2]`. The default windows fill a path of 100 ms at 600 Mbit/s. The default counts are far
/// above what clients do, and far below what would keep the process busy.
pub static KEYS: Keys = Keys {
    title: "`[server.http2]`",
    place: "[server.http2]\n…",
    about: "Limits of one HTTP/2 connection. A client that exceeds a count gets GOAWAY with ENHANCE_YOUR_CALM.",
    groups: &[&[
        &MAX_CONCURRENT_STREAMS,
        &STREAM_WINDOW,
        &CONNECTION_WINDOW,
        &MAX_HEADER_LIST,
        &MAX_RESETS,
        &MAX_PINGS,
        &MAX_SETTINGS,
        &MAX_EMPTY_FRAMES,
    ]],
    later: &[],
};

/// Bounds of windows: from the initial window of RFC 9113 §6.9.2 to the most that one client may reasonably make the
/// proxy buffer.
const WINDOW: Bytes = Bytes(1 << 16, 1 << 30);

static MAX_CONCURRENT_STREAMS: Defaulted<Integer> = Key {
    name: "max_concurrent_streams",
    kind: Integer(1, 10_000),
    default: Is(|| 100),
    about: "Most concurrent requests on one connection. Browsers expect 100.",
    example: "max_concurrent_streams = 200",
};

static STREAM_WINDOW: Defaulted<Bytes> = Key {
    name: "stream_window",
    kind: WINDOW,
    default: Is(|| 8 << 20),
    about: "Flow-control window of one request body in bytes. Raise it for fast uploads over long distances, to the \
            rate times the round-trip time.",
    example: "stream_window = \"16m\"",
};

static CONNECTION_WINDOW: Defaulted<Bytes> = Key {
    name: "connection_window",
    kind: WINDOW,
    default: Is(|| 16 << 20),
    about: "Flow-control window of all request bodies of one connection in bytes.",
    example: "connection_window = \"32m\"",
};

static MAX_HEADER_LIST: Defaulted<Bytes> = Key {
    name: "max_header_list",
    kind: Bytes(1 << 10, 1 << 20),
    default: Is(|| 64 << 10),
    about: "Largest headers of a request in bytes, each counted with 32 more (RFC 9113 §6.5.2). Larger ones get 431.",
    example: "max_header_list = \"128k\"",
};

static MAX_RESETS: Defaulted<Integer> = Key {
    name: "max_resets",
    kind: Integer(1, u32::MAX),
    default: Is(|| 200),
    about: "Most streams that a client resets in ten seconds (rapid reset, CVE-2023-44487).",
    example: "max_resets = 500",
};

static MAX_PINGS: Defaulted<Integer> = Key {
    name: "max_pings",
    kind: Integer(1, u32::MAX),
    default: Is(|| 50),
    about: "Most PING frames in ten seconds.",
    example: "max_pings = 100",
};

static MAX_SETTINGS: Defaulted<Integer> = Key {
    name: "max_settings",
    kind: Integer(1, u32::MAX),
    default: Is(|| 20),
    about: "Most SETTINGS frames in ten seconds.",
    example: "max_settings = 50",
};

static MAX_EMPTY_FRAMES: Defaulted<Integer> = Key {
    name: "max_empty_frames",
    kind: Integer(1, u32::MAX),
    default: Is(|| 200),
    about: "Most frames without content, and PRIORITY frames, in ten seconds.",
    example: "max_empty_frames = 500",
};

/// Reads `[server.http2]`.
pub fn read(value: Value<'_>) -> Option<Http2> {
    value.table(&KEYS).map(read_table)
}

/// The settings of a file without `[server.http2]`.
pub fn absent(context: &Context<'_>) -> Http2 {
    read_table(Table::absent(context, &KEYS))
}

fn read_table(mut table: Table<'_>) -> Http2 {
    let http2 = Http2 {
        max_concurrent_streams: table.read(&MAX_CONCURRENT_STREAMS),
        stream_window: table.read(&STREAM_WINDOW),
        connection_window: table.read(&CONNECTION_WINDOW),
        max_header_list: table.read(&MAX_HEADER_LIST),
        max_resets: table.read(&MAX_RESETS),
        max_pings: table.read(&MAX_PINGS),
        max_settings: table.read(&MAX_SETTINGS),
        max_empty_frames: table.read(&MAX_EMPTY_FRAMES),
    };
    table.finish();
    http2
}

/// The keys with their values.
pub fn pairs(http2: &Http2) -> Pairs {
    Pairs::default()
        .key(&MAX_CONCURRENT_STREAMS, &http2.max_concurrent_streams)
        .key(&STREAM_WINDOW, &http2.stream_window)
        .key(&CONNECTION_WINDOW, &http2.connection_window)
        .key(&MAX_HEADER_LIST, &http2.max_header_list)
        .key(&MAX_RESETS, &http2.max_resets)
        .key(&MAX_PINGS, &http2.max_pings)
        .key(&MAX_SETTINGS, &http2.max_settings)
        .key(&MAX_EMPTY_FRAMES, &http2.max_empty_frames)
}
