//! Members that are missing, that change, and that come from elsewhere.

use super::*;

fn replace(store: &Store, name: &str, content: &[u8]) {
    fs::write(store.path(name), content).unwrap();
}

#[tokio::test]
async fn a_member_that_is_no_longer_what_it_was_ends_the_connection() {
    let large = vec![7; 1_000_000];
    for list in ["- 1000000 /s/a a\n- 1000000 /s/b b\n", "1 1000000 /s/a a\n1 1000000 /s/b b\n"] {
        for change in [
            |store: &Store| replace(store, "b", &vec![7; 999_999]),
            |store: &Store| replace(store, "b", &vec![7; 1_000_001]),
            |store: &Store| replace(store, "b", &vec![8; 1_000_000]),
            |store: &Store| fs::remove_file(store.path("b")).unwrap(),
            |store: &Store| {
                fs::remove_file(store.path("b")).unwrap();
                fs::create_dir(store.path("b")).unwrap();
            },
        ] {
            let store = Store::new(&[("a", &large), ("b", &large)]).settle().await;
            let archive = store.archive(list).await;
            let span = ByteSpan { start: 0, length: archive.length() };
            change(&store);
            let mut pieces = archive.body(span);
            let mut bytes = 0;
            let error = loop {
                match next(&mut *pieces).await.expect("never an end") {
                    Ok(piece) => bytes += piece.length(),
                    Err(error) => break error,
                }
            };
            assert!(bytes < 1_100_000, "not one byte of it: {bytes}");
            assert!(error.to_string().contains("/s/b"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_member_that_changes_while_it_is_read_ends_the_connection() {
    let store = Store::new(&[("a", &[7; 1_000_000])]).settle().await;
    let archive = store.archive("- 1000000 /s/a a\n").await;
    let span = ByteSpan { start: 0, length: archive.length() };
    let mut source = MemberSource::new(archive, span);
    // The local header, and a part of the member.
    let mut batch = source.batch(None).unwrap();
    for _ in 0..2 {
        assert!(!batch.is_last);
        batch = source.batch(batch.needs.unwrap().try_enter().as_ref()).unwrap();
    }
    File::options().write(true).open(store.path("a")).unwrap().write_all_at(b"8", 999_999).unwrap();
    let error = loop {
        match source.batch(batch.needs.and_then(|bulkhead| bulkhead.try_enter()).as_ref()) {
            Ok(more) => {
                assert!(!more.is_last);
                batch = more;
            }
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("changed while it was being read"), "{error}");
}

#[tokio::test]
async fn what_is_missing_is_found_before_the_first_byte() {
    let store = Store::new(&[("a", b"a")]);
    for (line, says) in [
        ("- 1 /s/none none", "line 2 of the archive's list: /s/none: no such file"),
        ("- 2 /s/a a", "the file has 1 bytes, but the list says 2"),
        ("- 0 /s/a a", "the file has 1 bytes, but the list says 0"),
        ("- 1 /s/../../etc/passwd a", "outside of"),
        ("- 1 /elsewhere a", "/elsewhere: no internal route with files matches the path"),
        ("- 1 /s/%2Fa%00 a", "line 2 of the archive's list has a path"),
    ] {
        let problem = plan(store.order(format!("- 1 /s/a a\n{line}\n"))).await.unwrap_err().to_string();
        // A path with `..` is reported as missing if there is no such file.
        assert!(
            problem.contains(says) || line.contains("..") && problem.contains("no such file"),
            "{line}: {problem}"
        );
    }
    let long = ArchiveRequest { list: vec![0; MOST_LIST + 1].into(), ..store.order("") };
    assert!(matches!(plan(long).await, Err(Unplanned::List(list::ListError::TooLong))));
    let missing = plan(store.order("- 1 /s/none none")).await.unwrap_err();
    assert!(matches!(
        missing,
        Unplanned::Member { line: 1, problem: Unfit::Missing(Missing::NotFound(_)), .. }
    ));
}

#[tokio::test]
async fn what_is_missing_may_be_left_out() {
    let store = Store::new(&[("a", b"a")]);
    let list = "- 1 /s/none none\n- 1 /s/a one\n- 7 /s/a two\n- 1 /elsewhere three\n- 1 /s/a four";
    let skip = |list: &str| ArchiveRequest { policy: Policy::Skip, ..store.order(list) };
    let archive = plan(skip(list)).await.unwrap();
    let span = ByteSpan { start: 0, length: archive.length() };
    assert_eq!(collect(archive.body(span)).await.unwrap(), store.bytes("- 1 /s/a one\n- 1 /s/a four").await);
    let upstream = plan(skip("- 1 /s/a a\n- - /upstream/b b")).await.unwrap_err();
    assert!(matches!(upstream, Unplanned::Member { problem: Unfit::Unsized, .. }), "a mistake of the list");
}

#[tokio::test]
async fn upstreams_send_members_too() {
    let store = Store::new(&[("a", b"a")]);
    let listed = "/upstream/x%20y?q=1";
    let list = format!("- 1 /s/a a\n- {} {listed} from elsewhere\n- 0 /upstream/ empty\n", listed.len());
    let archive = store.archive(&list).await;
    assert!(archive.etag().is_none() && !archive.is_rangeable());
    let whole = store.bytes(&list).await;
    assert!(whole.windows(listed.len()).any(|bytes| bytes == listed.as_bytes()));
    accepted(&store.write(&list).await, 3);
    for wrong in ["- 5 /upstream/longer a", "- 500 /upstream/shorter a", "12345678 13 /upstream/other a"] {
        let archive = store.archive(wrong).await;
        let span = ByteSpan { start: 0, length: archive.length() };
        assert!(collect(archive.body(span)).await.is_err(), "{wrong}");
    }
}

#[test]
fn the_application_says_what_it_wants() {
    let order = |fields: &HeaderMap| {
        let order = ArchiveRequest::new(
            Bytes::new(),
            fields,
            Arc::new(|_, _| Err(Unresolved::NoRoute)),
            Arc::default(),
        );
        (is_list(fields), order.charset, order.policy)
    };
    assert_eq!(order(&fields(GALAXY)), (true, Charset::Utf8, Policy::Refuse));
    assert_eq!(order(&HeaderMap::new()), (false, Charset::Utf8, Policy::Refuse));
    let all =
        fields(&[("x-archive-files", "tar"), ("x-archive-charset", "cp866"), ("x-archive-missing", "Skip")]);
    assert_eq!(order(&all), (false, Charset::Native, Policy::Skip));
}

#[tokio::test]
async fn planning_ends_when_nobody_waits() {
    let store = Store::new(&[("a", b"a")]);
    let mut order = store.order("- 1 /s/a a\n".repeat(20_000));
    let resolve = Arc::clone(&order.resolve);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // In the middle, wait until the client has left.
    let (reached, mut middle) = tokio::sync::mpsc::unbounded_channel();
    let (leave, left) = std::sync::mpsc::channel();
    let left = std::sync::Mutex::new(left);
    order.resolve = Arc::new(move |path, listed| {
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 100 {
            reached.send(()).unwrap();
            left.lock().unwrap().recv().unwrap();
        }
        resolve(path, listed)
    });
    let mut planning = Box::pin(plan(order));
    tokio::select! {
        _ = &mut planning => panic!("it waits"),
        reached = middle.recv() => reached.unwrap(),
    }
    drop(planning);
    leave.send(()).unwrap();
    // The end of the task drops what it asked for.
    assert_eq!(middle.recv().await, None);
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) < 20_000);
}
