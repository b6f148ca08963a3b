//! Responses to resumed, range and conditional requests.

use super::*;
use crate::message::RawHeaders;

/// Collects the bytes, and counts the pieces that the kernel sends.
async fn collect_and_count(mut pieces: Box<dyn Pieces>) -> (Vec<u8>, usize) {
    let mut all = VecDeque::new();
    while let Some(piece) = next(&mut *pieces).await {
        all.push_back(piece.unwrap());
    }
    let by_kernel = all.iter().filter(|piece| matches!(piece, Piece::File { .. })).count();
    (collect(Box::new(all)).await.unwrap(), by_kernel)
}

#[tokio::test]
async fn the_second_request_knows_the_crcs() {
    let store = Store::new(&[("a", &[1; 300_000]), ("b", b"b")]).settle().await;
    let list = "- 300000 /s/a a\n- 1 /s/b b\n- 300000 /s/a again\n";
    let first = store.archive(list).await;
    let (length, etag) = (first.length(), first.etag().cloned());
    assert!(!first.is_rangeable());
    let (whole, by_kernel) = collect_and_count(first.body(ByteSpan { start: 0, length })).await;
    assert_eq!(by_kernel, 1, "what comes again is known");
    let second = store.archive(list).await;
    assert!(second.is_rangeable());
    assert_eq!((second.length(), second.etag()), (length, etag.as_ref()));
    let (bytes, by_kernel) = collect_and_count(second.body(ByteSpan { start: 0, length })).await;
    assert_eq!(by_kernel, 2);
    assert_eq!(bytes, whole, "the same bytes, known or not");
}

#[tokio::test]
async fn an_interrupted_first_request_is_resumed_without_reading_it_again() {
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let store = Store::new(&[("a", &content), ("b", &content)]).settle().await;
    let list = "- 2000000 /s/a a\n- 2000000 /s/b b\n";
    let whole = Store { directory: store.directory, crcs: Arc::default() };
    let bytes = whole.bytes(list).await;
    // An empty cache of CRCs, as if the first request had not happened.
    let store = Store { directory: whole.directory, crcs: Arc::default() };
    let archive = store.archive(list).await;
    let length = archive.length();
    let mut pieces = archive.body(ByteSpan { start: 0, length });
    let mut sent = 0;
    while sent < 3_000_000 {
        sent += next(&mut *pieces).await.unwrap().unwrap().length();
    }
    drop(pieces);
    // Some of what was sent has not arrived.
    let span = ByteSpan { start: sent - 700_000, length: length - (sent - 700_000) };
    let mut archive = store.archive(list).await;
    // The batch under construction is dropped when it is done.
    while archive.unsent(span) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        archive = store.archive(list).await;
    }
    assert!(archive.unsent(ByteSpan { start: length - 1, length: 1 }) == 0, "the end has no CRC in it");
    let unknown = archive.unsent(ByteSpan { start: length - 30, length: 30 });
    assert!((1..1_100_000).contains(&unknown), "a part of the second is known: {unknown}");
    assert_eq!(collect(archive.body(span)).await.unwrap(), bytes[span.start as usize..]);
}

#[tokio::test]
async fn a_file_that_was_only_just_written_is_not_remembered() {
    let store = Store::new(&[]);
    for content in [b"1", b"2", b"3"] {
        fs::write(store.path("a"), content).unwrap();
        // The file counts as written at this very moment, however slow the machine is.
        let file = File::options().write(true).open(store.path("a")).unwrap();
        file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).unwrap();
        let whole = store.bytes("- 1 /s/a a").await;
        let crc = crc(content).to_le_bytes();
        assert_eq!(whole.windows(4).filter(|window| *window == crc).count(), 2, "descriptor and directory");
        assert!(!store.archive("- 1 /s/a a").await.is_rangeable());
    }
}

#[tokio::test]
async fn an_etag_changes_with_names_files_and_order() {
    let store = Store::new(&[("a", b"a"), ("b", b"b")]).settle().await;
    let list = "- 1 /s/a a\n- 1 /s/b b";
    let etag = store.archive(list).await.etag().unwrap().clone();
    assert_eq!(store.archive(list).await.etag(), Some(&etag));
    for other in [
        "- 1 /s/b b\n- 1 /s/a a",
        "- 1 /s/a a\n- 1 /s/b c",
        "- 1 /s/a a",
        "- 1 /s/a a\n- 1 /s/a b",
        "1 1 /s/a a\n- 1 /s/b b",
    ] {
        assert_ne!(store.archive(other).await.etag(), Some(&etag), "{other}");
    }
    fs::write(store.path("a"), "c").unwrap();
    assert_ne!(store.archive(list).await.etag(), Some(&etag));
}

// Response to a request.

async fn get(store: &Store, list: &str, method: Method, request: &[(&'static str, &str)]) -> Response {
    answer(store.archive(list).await, &method, &RawHeaders::of(request), &fields(GALAXY))
}

async fn body(answer: Response) -> Vec<u8> {
    let promised = answer.body.length();
    let bytes = match answer.body {
        Body::Empty => Vec::new(),
        Body::Bytes(bytes) => bytes.into(),
        Body::Pieces { pieces, .. } => collect(pieces).await.unwrap(),
    };
    assert_eq!(bytes.len() as u64, promised);
    bytes
}

#[tokio::test]
async fn the_whole_archive_and_the_applications_fields() {
    let store = Store::new(&[("a", b"a")]);
    let answer = get(&store, "- 1 /s/a a", Method::GET, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut names: Vec<_> = answer.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["access-control-allow-origin", "content-disposition", "content-type", "etag"]);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/zip");
    assert_ne!(answer.headers[header::ETAG], "\"of the list\"");
    assert_eq!(body(answer).await, store.bytes("- 1 /s/a a").await);
    let answer = get(&store, "1 1 /s/a a", Method::GET, &[]).await;
    assert_eq!(answer.headers[header::ACCEPT_RANGES], "bytes");
}

#[tokio::test]
async fn ranges_and_conditions() {
    let store = Store::new(&[("a", b"content")]);
    let list = "1 7 /s/a a";
    let whole = store.bytes(list).await;
    let etag = store.archive(list).await.etag().unwrap().to_str().unwrap().to_owned();
    let answered = |request: Vec<(&'static str, String)>, method| {
        let store = &store;
        async move {
            let request: Vec<_> = request.iter().map(|(name, value)| (*name, value.as_str())).collect();
            get(store, list, method, &request).await
        }
    };
    let part = answered(vec![("range", "bytes=10-19".into())], Method::GET).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers[header::CONTENT_RANGE], format!("bytes 10-19/{}", whole.len()));
    assert_eq!(body(part).await, whole[10..20]);
    let rest = answered(vec![("range", "bytes=10-".into()), ("if-range", etag.clone())], Method::GET).await;
    assert_eq!(body(rest).await, whole[10..]);
    for other in [
        vec![("range", "bytes=10-".into()), ("if-range", "\"other\"".into())],
        vec![("range", "bytes=0-1,100-101".into())],
        vec![("range", "lines=1-".into())],
        vec![("if-none-match", "\"other\"".into())],
    ] {
        let all = answered(other, Method::GET).await;
        assert_eq!(all.status, StatusCode::OK);
        assert_eq!(body(all).await, whole);
    }
    let post =
        answered(vec![("range", "bytes=10-".into()), ("if-none-match", etag.clone())], Method::POST).await;
    assert_eq!((post.status, body(post).await), (StatusCode::OK, whole.clone()));
    let same = answered(vec![("if-none-match", etag.clone())], Method::GET).await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    assert_eq!(same.headers[header::ETAG], etag);
    let done = answered(vec![("range", format!("bytes={}-", whole.len()))], Method::GET).await;
    assert_eq!(done.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(done.headers[header::CONTENT_RANGE], format!("bytes */{}", whole.len()));
    let failed = answered(vec![("if-match", "\"other\"".into())], Method::GET).await;
    assert_eq!(failed.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(answered(vec![], Method::HEAD).await.body.length(), whole.len() as u64);
}

#[tokio::test]
async fn a_range_that_takes_too_much_reading_is_not_made() {
    const SIZE: u64 = 100 << 20;
    let store = Store::new(&[("b", b"b")]);
    File::create(store.path("a")).unwrap().set_len(SIZE).unwrap();
    let store = store.settle().await;
    let list = format!("- {SIZE} /s/a a\n- 1 /s/b b");
    // A range within the data alone needs no CRC.
    let part = get(&store, &list, Method::GET, &[("range", "bytes=90000000-90000009")]).await;
    assert_eq!(body(part).await, [0; 10]);
    let late = get(&store, &list, Method::GET, &[("range", "bytes=90000000-")]).await;
    assert_eq!(late.status, StatusCode::OK);
    let early = get(&store, &list, Method::GET, &[("range", "bytes=60000000-")]).await;
    assert_eq!(early.status, StatusCode::PARTIAL_CONTENT);
}

#[derive(Debug, Clone)]
struct Made {
    content: Vec<u8>,
    name: String,
    has_crc: bool,
    is_directory: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let size = prop_oneof![4 => 0..200_usize, 1 => 30_000..40_000_usize, 1 => 250_000..600_000_usize];
    (size, any::<u8>(), "[a-zü/]{0,20}[a-z]", any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(size, seed, name, has_crc, is_directory)| {
            let content = (0..size).map(|at| (at / 7) as u8 ^ seed).collect();
            Made { content, name, has_crc, is_directory }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn any_range_of_any_archive_is_a_part_of_the_whole(
        members in prop::collection::vec(made(), 0..8),
        ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 6),
        is_forgetful: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::new(&[]);
            let mut list = String::new();
            for (index, made) in members.iter().enumerate() {
                fs::write(store.path(&index.to_string()), &made.content).unwrap();
                let crc = if made.has_crc { format!("{:x}", crc(&made.content)) } else { "-".into() };
                list += &match made.is_directory {
                    true => format!("0 0 @directory {}\n", made.name),
                    false => format!("{crc} {} /s/{index} {}\n", made.content.len(), made.name),
                };
            }
            let mut store = store.settle().await;
            let whole = store.bytes(&list).await;
            for (start, end) in ranges {
                if is_forgetful {
                    store.crcs = Arc::default();
                }
                let (start, end) = (start.index(whole.len()), end.index(whole.len()));
                let (start, end) = (start.min(end), start.max(end) + 1);
                let archive = store.archive(&list).await;
                assert_eq!(archive.length(), whole.len() as u64);
                let span = ByteSpan { start: start as u64, length: (end - start) as u64 };
                assert!(collect(archive.body(span)).await.unwrap() == whole[start..end], "{span:?}");
            }
        });
    }
}
