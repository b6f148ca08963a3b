//! Archives of real files, byte by byte and as other programs see them.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    future::poll_fn,
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{plan::Unfit, *};
use crate::{
    answer::{Answer, Body, Piece, Pieces},
    files::open::Missing,
};

/// A directory with files in it, at `/s/`.
struct Store {
    directory: TempDir,
    crcs: Arc<Crcs>,
}

impl Store {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self { directory, crcs: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Until its files are old enough for their CRCs to be remembered.
    async fn settle(self) -> Self {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self
    }

    fn order(&self, list: impl AsRef<[u8]>) -> Order {
        let root = self.directory.path().to_path_buf();
        let resolve =
            move |path: &str, listed: &str| match (path.strip_prefix("/s/"), path.strip_prefix("/upstream/"))
            {
                (Some(rest), _) => {
                    Ok(Place::File(Wanted::first_of(vec![root.join(rest)], vec![root.clone()])))
                }
                (None, Some(_)) => Ok(Place::Remote(Box::new(Echo(listed.to_owned())))),
                (None, None) => Err(Unresolved::NoRoute),
            };
        Order {
            list: list.as_ref().to_vec().into(),
            charset: Charset::Utf8,
            policy: Policy::Refuse,
            resolve: Arc::new(resolve),
            crcs: Arc::clone(&self.crcs),
        }
    }

    async fn archive(&self, list: impl AsRef<[u8]>) -> Archive {
        plan(self.order(list)).await.unwrap()
    }

    /// The bytes of a whole archive.
    async fn bytes(&self, list: impl AsRef<[u8]>) -> Vec<u8> {
        let archive = self.archive(list).await;
        let span = Span { start: 0, length: archive.length() };
        collect(archive.body(span)).await.unwrap()
    }

    /// A whole archive, in a file.
    async fn write(&self, list: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("archive.zip");
        let archive = self.archive(list).await;
        let length = archive.length();
        let mut out = File::create(&path).unwrap();
        let mut pieces = archive.body(Span { start: 0, length });
        let mut written = 0;
        while let Some(piece) = next(&mut *pieces).await {
            written += put(&mut out, &piece.unwrap());
        }
        assert_eq!(written, length);
        // Where zeros were left out at the end.
        assert_eq!(out.stream_position().unwrap(), length);
        path
    }
}

async fn next(pieces: &mut dyn Pieces) -> Option<io::Result<Piece>> {
    poll_fn(|cx| pieces.poll_next(cx)).await
}

async fn collect(mut pieces: Box<dyn Pieces>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut *pieces).await {
        match piece? {
            Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
            Piece::File { file, offset, length } => {
                let at = bytes.len();
                bytes.resize(at + length as usize, 0);
                file.read_exact_at(&mut bytes[at..], offset)?;
            }
        }
    }
    Ok(bytes)
}

/// Appends a piece, and holes as holes.
fn put(out: &mut File, piece: &Piece) -> u64 {
    match piece {
        Piece::Bytes(bytes) => out.write_all(bytes).unwrap(),
        Piece::File { file, offset, length } => {
            let start = out.stream_position().unwrap();
            let (mut at, end) = (*offset, offset + length);
            while let Ok(data) = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                if data >= end {
                    break;
                }
                let mut buffer = vec![0; (end - data).min(64 * 1024) as usize];
                file.read_exact_at(&mut buffer, data).unwrap();
                out.seek(SeekFrom::Start(start + data - offset)).unwrap();
                out.write_all(&buffer).unwrap();
                at = data + buffer.len() as u64;
            }
            out.seek(SeekFrom::Start(start + length)).unwrap();
        }
    }
    piece.length()
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

// What other programs say.

const PYTHON: &str = "
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
print(len(archive.infolist()))
";

/// Each one reads every member and checks its CRC.
const JUDGES: [&[&str]; 4] =
    [&["unzip", "-tqq"], &["7z", "t", "-bso0", "-bsp0"], &["python3", "-c", PYTHON], &["bsdtar", "-xOf"]];

/// What a program says of an archive: its exit code and what it prints.
fn ask(program: &[&str], archive: &Path) -> std::process::Child {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(archive).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let stdout = if program[0] == "bsdtar" { Stdio::null() } else { Stdio::piped() };
    command.stdout(stdout).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{} (make tools): {error}", program[0]))
}

/// All judges at once: who finds it whole?
fn verdicts(archive: &Path) -> HashMap<&'static str, Result<String, String>> {
    let asked: Vec<_> = JUDGES.iter().map(|judge| (judge[0], ask(judge, archive))).collect();
    let answered = asked.into_iter().map(|(name, child)| {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        let verdict = if output.status.success() {
            Ok(said)
        } else {
            Err(format!("{}{said}{complained}", output.status))
        };
        (name, verdict)
    });
    answered.collect()
}

/// No judge finds anything wrong, and Python counts so many members.
#[track_caller]
fn accepted(archive: &Path, members: usize) {
    for (name, verdict) in verdicts(archive) {
        let said = verdict.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        if name == "python3" {
            assert_eq!(said.trim(), members.to_string());
        }
    }
}

/// What Python says of each member, one a line: name, size, mode, time, flags, extracted bytes.
fn contents(archive: &Path) -> Vec<String> {
    const SCRIPT: &str = "
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
for info in archive.infolist():
    data = archive.read(info) if info.file_size < 1000 else b'...'
    print(info.filename, info.file_size, oct(info.external_attr >> 16), info.date_time, info.flag_bits, data)
";
    let output = ask(&["python3", "-c", SCRIPT], archive).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

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
    // The one that has its own word for it: "zipfile is empty", a warning (1).
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
    // Python takes them for CP437.
    assert!(contents(&archive)[0].starts_with("ⁿber.txt 1 0o100644"), "{:?}", contents(&archive));
    let bytes = store.bytes(b"- 1 /s/x \xfcber.txt\n").await;
    assert!(bytes.windows(8).any(|window| window == b"\xfcber.txt"));
    let native = Order { charset: Charset::Native, ..store.order("- 1 /s/x ü") };
    let native = plan(native).await.unwrap();
    let span = Span { start: 0, length: native.length() };
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
    let span = Span { start: 0, length: archive.length() };
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
    // Of this process, which has no other test (nextest).
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

/// Looks at the structure and reads what lies behind the five GiB; reading those takes too long for every day, see
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
    // The CRC computed while it is sent, and the long descriptor.
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
                // It does without the directory then, and all members are there.
                verdicts.remove("bsdtar");
            }
            assert!(verdicts.values().all(Result::is_err), "{length}: {verdicts:?}");
        }
    }
}

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
            let span = Span { start: 0, length: archive.length() };
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
    let span = Span { start: 0, length: archive.length() };
    let mut source = Source::new(archive, span);
    assert!(!source.batch().unwrap().is_last);
    File::options().write(true).open(store.path("a")).unwrap().write_all_at(b"8", 999_999).unwrap();
    let error = loop {
        match source.batch() {
            Ok(batch) => assert!(!batch.is_last),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("changed while it was read"), "{error}");
}

#[tokio::test]
async fn what_is_missing_is_found_before_the_first_byte() {
    let store = Store::new(&[("a", b"a")]);
    for (line, says) in [
        ("- 1 /s/none none", "line 2 of the archive's list: /s/none: no such file"),
        ("- 2 /s/a a", "the file has 1 bytes, and 2 are listed"),
        ("- 0 /s/a a", "the file has 1 bytes, and 0 are listed"),
        ("- 1 /s/../../etc/passwd a", "outside of"),
        ("- 1 /elsewhere a", "/elsewhere: no route with files is there"),
        ("- 1 /s/%2Fa%00 a", "line 2 of the archive's list has a path"),
    ] {
        let problem = plan(store.order(format!("- 1 /s/a a\n{line}\n"))).await.unwrap_err().to_string();
        // A path that leads up is missing where nothing is there.
        assert!(
            problem.contains(says) || line.contains("..") && problem.contains("no such file"),
            "{line}: {problem}"
        );
    }
    let long = Order { list: vec![0; MOST_LIST + 1].into(), ..store.order("") };
    assert!(matches!(plan(long).await, Err(Unplanned::List(list::BadList::TooLong))));
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
    let skip = |list: &str| Order { policy: Policy::Skip, ..store.order(list) };
    let archive = plan(skip(list)).await.unwrap();
    let span = Span { start: 0, length: archive.length() };
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
        let span = Span { start: 0, length: archive.length() };
        assert!(collect(archive.body(span)).await.is_err(), "{wrong}");
    }
}

/// An upstream that sends what it was asked for.
struct Echo(String);

impl Remote for Echo {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let body = if self.0 == "/upstream/" { String::new() } else { self.0.clone() };
        Ok(Box::new(std::io::Cursor::new(body.into_bytes())))
    }
}

#[test]
fn the_application_says_what_it_wants() {
    let order = |fields: &HeaderMap| {
        let order =
            Order::new(Bytes::new(), fields, Arc::new(|_, _| Err(Unresolved::NoRoute)), Arc::default());
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
    order.resolve = Arc::new(move |path, listed| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        resolve(path, listed)
    });
    let planning = tokio::time::timeout(Duration::from_millis(5), plan(order));
    assert!(planning.await.is_err(), "takes longer");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) < 20_000);
}

/// The bytes, and how many of the pieces the kernel sends.
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
    let (whole, by_kernel) = collect_and_count(first.body(Span { start: 0, length })).await;
    assert_eq!(by_kernel, 1, "what comes again is known");
    let second = store.archive(list).await;
    assert!(second.is_rangeable());
    assert_eq!((second.length(), second.etag()), (length, etag.as_ref()));
    let (bytes, by_kernel) = collect_and_count(second.body(Span { start: 0, length })).await;
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
    // Other CRCs: as if the first request had never been.
    let store = Store { directory: whole.directory, crcs: Arc::default() };
    let archive = store.archive(list).await;
    let length = archive.length();
    let mut pieces = archive.body(Span { start: 0, length });
    let mut sent = 0;
    while sent < 3_000_000 {
        sent += next(&mut *pieces).await.unwrap().unwrap().length();
    }
    drop(pieces);
    // Some of what was sent has not arrived.
    let span = Span { start: sent - 700_000, length: length - (sent - 700_000) };
    let mut archive = store.archive(list).await;
    // The batch that was being made is thrown away when it is done.
    while archive.unsent(span) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        archive = store.archive(list).await;
    }
    assert!(archive.unsent(Span { start: length - 1, length: 1 }) == 0, "the end has no CRC in it");
    let unknown = archive.unsent(Span { start: length - 30, length: 30 });
    assert!((1..1_100_000).contains(&unknown), "a part of the second is known: {unknown}");
    assert_eq!(collect(archive.body(span)).await.unwrap(), bytes[span.start as usize..]);
}

#[tokio::test]
async fn a_file_that_was_only_just_written_is_not_remembered() {
    let store = Store::new(&[]);
    for content in [b"1", b"2", b"3"] {
        fs::write(store.path("a"), content).unwrap();
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

// What the client gets.

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

const GALAXY: &[(&str, &str)] = &[
    ("content-disposition", "attachment; filename=\"data.zip\""),
    ("x-archive-files", "zip"),
    ("x-archive-charset", "utf-8"),
    ("content-type", "text/html"),
    ("content-length", "99"),
    ("etag", "\"of the list\""),
    ("access-control-allow-origin", "*"),
];

async fn get(store: &Store, list: &str, method: Method, request: &[(&'static str, &str)]) -> Answer {
    answer(store.archive(list).await, &method, &fields(request), &fields(GALAXY))
}

async fn body(answer: Answer) -> Vec<u8> {
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
    // In the data alone no CRC is wanted.
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
                let span = Span { start: start as u64, length: (end - start) as u64 };
                assert!(collect(archive.body(span)).await.unwrap() == whole[start..end], "{span:?}");
            }
        });
    }
}
