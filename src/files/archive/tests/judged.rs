//! Archives as read by other programs.

use super::*;

#[tokio::test]
async fn three_members_whose_crcs_are_known_and_not() {
    let store = Store::new(&[("a.txt", b"first"), ("b", &[7; 100_000]), ("empty", b"")]);
    let known = format!(
        "{:x} 5 /s/a.txt a.txt\n{:08X} 100000 /s/b dir/b b\n- 0 /s/empty empty",
        crc(b"first"),
        crc(&[7; 100_000])
    );
    accepted(&store.write(&known).await, 3);
    assert!(store.archive(&known).await.is_rangeable());
    let unknown = "- 5 /s/a.txt a.txt\n- 100000 /s/b dir/b b\n- 0 /s/empty empty";
    assert!(!store.archive(unknown).await.is_rangeable());
    accepted(&store.write(unknown).await, 3);
}

#[tokio::test]
async fn no_members() {
    let store = Store::new(&[]);
    let archive = store.write("").await;
    assert_eq!(fs::metadata(&archive).unwrap().len(), 22);
    let mut verdicts = verdicts(&archive);
    // unzip alone reports an empty archive as such: "zipfile is empty", a warning (1).
    let unzip = verdicts.remove("unzip").unwrap();
    assert!(unzip.as_ref().is_err_and(|said| said.contains("zipfile is empty")), "{unzip:?}");
    assert!(verdicts.values().all(Result::is_ok), "{verdicts:?}");
}

#[tokio::test]
async fn names_directories_times_and_modes() {
    let store = Store::new(&[("x", b"x"), ("tree/y", b"y")]);
    let time = std::time::UNIX_EPOCH + Duration::from_secs(784_111_778);
    for name in ["x", "tree/y"] {
        File::open(store.path(name)).unwrap().set_modified(time).unwrap();
    }
    let list = "0 0 @directory データ\n- 1 /s/x データ/ü ñ 🦀.txt\n- 1 /s/x データ/ü ñ 🦀.txt\n\
        - 4096 /s/tree plain/tree\n- 1 /s/tree/y /plain/../tree\\y\n";
    let archive = store.write(list).await;
    accepted(&archive, 5);
    let time = "(1994, 11, 6, 8, 49, 38)";
    assert_eq!(
        contents(&archive),
        [
            format!("データ/ 0 0o40755 {time} 2048 b''"),
            format!("データ/ü ñ 🦀.txt 1 0o100644 {time} 2056 b'x'"),
            format!("データ/ü ñ 🦀.txt 1 0o100644 {time} 2056 b'x'"),
            format!("plain/tree/ 0 0o40755 {time} 0 b''"),
            format!("plain/__/tree_y 1 0o100644 {time} 8 b'y'"),
        ]
    );
}

#[tokio::test]
async fn names_that_are_not_utf_8_are_kept() {
    let store = Store::new(&[("x", b"x")]);
    let archive = store.write(b"- 1 /s/x \xfcber.txt\n").await;
    // Python takes such names for CP437.
    assert!(contents(&archive)[0].starts_with("ⁿber.txt 1 0o100644"), "{:?}", contents(&archive));
    let bytes = store.bytes(b"- 1 /s/x \xfcber.txt\n").await;
    assert!(bytes.windows(8).any(|window| window == b"\xfcber.txt"));
    let native = ArchiveRequest { charset: Charset::Native, ..store.order("- 1 /s/x ü") };
    let native = plan(native).await.unwrap();
    let span = ByteSpan { start: 0, length: native.length() };
    assert_eq!(collect(native.body(span)).await.unwrap()[6..8], [8, 0], "not marked as UTF-8");
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "figures, for who asks with --no-capture")]
async fn seventy_thousand_members() {
    const MEMBERS: usize = 70_000;
    const FILES: usize = 700;
    let store = Store::new(&[]);
    for file in 0..FILES {
        fs::write(store.path(&file.to_string()), format!("content {file}").repeat(file % 5)).unwrap();
    }
    let lines = (0..MEMBERS)
        .map(|member| format!("- - /s/{} directory {}/member {member}.txt\n", member % FILES, member % 10));
    let list: String = lines.collect();
    let store = store.settle().await;
    let memory = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (before, begun) = (memory(), std::time::Instant::now());
    let archive = store.archive(&list).await;
    println!("planned: {:?}, {} KiB more", begun.elapsed(), memory() - before);
    let span = ByteSpan { start: 0, length: archive.length() };
    let path = store.path("archive.zip");
    let mut out = File::create(&path).unwrap();
    let (before, begun) = (memory(), std::time::Instant::now());
    let mut pieces = archive.body(span);
    let mut written = 0;
    while let Some(piece) = next(&mut *pieces).await {
        let piece = piece.unwrap();
        assert!(piece.length() < 300 * 1024, "at most a batch in memory");
        written += put(&mut out, &piece);
    }
    println!("made: {:?}, {} bytes, {} KiB more", begun.elapsed(), written, memory() - before);
    assert_eq!(written, span.length);
    // Memory of this process, which runs no other test (nextest).
    assert!(memory() - before < 8 * 1024, "{} KiB", memory() - before);
    let begun = std::time::Instant::now();
    accepted(&path, MEMBERS);
    println!("judged: {:?}", begun.elapsed());
    assert!(store.archive(&list).await.is_rangeable());
}

/// The CRC of a file of zeros, without reading it.
fn crc_of_zeros(bytes: u64) -> u32 {
    let (mut whole, mut left) = (crc32fast::Hasher::new(), bytes);
    let mut block = crc32fast::Hasher::new();
    block.update(&[0]);
    while left > 0 {
        if left % 2 == 1 {
            whole.combine(&block);
        }
        let copy = block.clone();
        block.combine(&copy);
        left /= 2;
    }
    whole.finalize()
}

const HUGE: u64 = 5 << 30;

fn huge_store() -> Store {
    let store = Store::new(&[("small", b"small")]);
    File::create(store.path("huge")).unwrap().set_len(HUGE).unwrap();
    store
}

/// Checks the structure and reads what lies behind the five GiB; reading those takes too long for every day, see
/// [`five_gib_read_whole`].
#[tokio::test]
async fn five_gib() {
    let store = huge_store();
    let list = format!("- 5 /s/small first\n{:x} {HUGE} /s/huge huge\n- 5 /s/small last", crc_of_zeros(HUGE));
    let archive = store.write(list).await;
    let contents = contents(&archive);
    assert!(contents[1].starts_with(&format!("huge {HUGE} ")));
    assert!(contents[2].starts_with("last 5 ") && contents[2].ends_with(" b'small'"));
    for list in [&["unzip", "-l"][..], &["7z", "l"], &["bsdtar", "-tvf"]] {
        let output = ask(list, &archive).wait_with_output().unwrap();
        assert!(output.status.success(), "{list:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for one in [&["unzip", "-p"][..], &["7z", "x", "-so"]] {
        let output = Command::new(one[0]).args(&one[1..]).arg(&archive).arg("last").output().unwrap();
        assert_eq!(output.stdout, b"small", "{one:?}");
    }
}

#[tokio::test]
#[ignore = "reads and hashes 5 GiB five times, about half a minute on a good machine and optimized"]
async fn five_gib_read_whole() {
    let store = huge_store();
    let list = format!("- 5 /s/small first\n{:x} {HUGE} /s/huge huge\n- 5 /s/small last", crc_of_zeros(HUGE));
    accepted(&store.write(list).await, 3);
    // The CRC computed during the transfer, and the long descriptor.
    let list = format!("- 5 /s/small first\n- {HUGE} /s/huge huge\n- 5 /s/small last");
    accepted(&store.write(list).await, 3);
}

#[tokio::test]
async fn interrupted_archives_are_no_archives() {
    let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let store = Store::new(&[("a", &content), ("b", &content), ("c", b"small")]);
    for crc in ["-".into(), format!("{:x}", crc(&content))] {
        let list = format!("{crc} 200000 /s/a a\n{crc} 200000 /s/b b\n- 5 /s/c c\n");
        let whole = store.bytes(&list).await;
        let archive = store.archive(&list).await;
        let second = archive.table.members[1].offset;
        let table = &archive.table;
        let whole_members = [table.directory + 60, whole.len() as u64 - 1];
        for length in [1, second, second + 100_000, table.directory].into_iter().chain(whole_members) {
            let path = store.path("cut.zip");
            fs::write(&path, &whole[..length as usize]).unwrap();
            let mut verdicts = verdicts(&path);
            if whole_members.contains(&length) {
                // bsdtar does without the directory here, and finds all members.
                verdicts.remove("bsdtar");
            }
            assert!(verdicts.values().all(Result::is_err), "{length}: {verdicts:?}");
        }
    }
}
