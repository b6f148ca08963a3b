//! Archives of real files, byte by byte and as read by other programs.

mod changes;
mod judged;
mod requests;

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
    files::open::Missing,
    response::{Body, Piece, Pieces, Response},
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

    /// Waits until the files are old enough for their CRCs to be cached.
    async fn settle(self) -> Self {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self
    }

    fn order(&self, list: impl AsRef<[u8]>) -> ArchiveRequest {
        let root = self.directory.path().to_path_buf();
        let resolve =
            move |path: &str, listed: &str| match (path.strip_prefix("/s/"), path.strip_prefix("/upstream/"))
            {
                (Some(rest), _) => {
                    Ok(MemberPlace::File(FileRequest::first_of(vec![root.join(rest)], vec![root.clone()])))
                }
                (None, Some(_)) => Ok(MemberPlace::Remote(Box::new(Echo(listed.to_owned())))),
                (None, None) => Err(Unresolved::NoRoute),
            };
        ArchiveRequest {
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
        let span = ByteSpan { start: 0, length: archive.length() };
        collect(archive.body(span)).await.unwrap()
    }

    /// A whole archive, in a file.
    async fn write(&self, list: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("archive.zip");
        let archive = self.archive(list).await;
        let length = archive.length();
        let mut out = File::create(&path).unwrap();
        let mut pieces = archive.body(ByteSpan { start: 0, length });
        let mut written = 0;
        while let Some(piece) = next(&mut *pieces).await {
            written += put(&mut out, &piece.unwrap());
        }
        assert_eq!(written, length);
        // Zeros may have been left out at the end.
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
                file.get()?.read_exact_at(&mut bytes[at..], offset)?;
            }
        }
    }
    Ok(bytes)
}

/// Appends a piece; holes remain holes.
fn put(out: &mut File, piece: &Piece) -> u64 {
    match piece {
        Piece::Bytes(bytes) => out.write_all(bytes).unwrap(),
        Piece::File { file, offset, length } => {
            let start = out.stream_position().unwrap();
            let (mut at, end) = (*offset, offset + length);
            while let Ok(data) = rustix::fs::seek(file.get().unwrap(), rustix::fs::SeekFrom::Data(at)) {
                if data >= end {
                    break;
                }
                let mut buffer = vec![0; (end - data).min(64 * 1024) as usize];
                file.get().unwrap().read_exact_at(&mut buffer, data).unwrap();
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

// Script that prints what Python reads.

const PYTHON: &str = "
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
print(len(archive.infolist()))
";

/// Programs that read every member and check its CRC.
const JUDGES: [&[&str]; 4] =
    [&["unzip", "-tqq"], &["7z", "t", "-bso0", "-bsp0"], &["python3", "-c", PYTHON], &["bsdtar", "-xOf"]];

/// Starts a program on an archive.
fn ask(program: &[&str], archive: &Path) -> std::process::Child {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(archive).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let stdout = if program[0] == "bsdtar" { Stdio::null() } else { Stdio::piped() };
    command.stdout(stdout).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{} (make tools): {error}", program[0]))
}

/// Runs all programs at once; returns the verdict of each.
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

/// Asserts that no program finds an error, and that Python counts this many members.
#[track_caller]
fn accepted(archive: &Path, members: usize) {
    for (name, verdict) in verdicts(archive) {
        let said = verdict.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        if name == "python3" {
            assert_eq!(said.trim(), members.to_string());
        }
    }
}

/// Members as Python reads them, one per line: name, size, mode, time, flags, extracted bytes.
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

/// An upstream that sends back the requested target.
struct Echo(String);

impl Remote for Echo {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let body = if self.0 == "/upstream/" { String::new() } else { self.0.clone() };
        Ok(Box::new(std::io::Cursor::new(body.into_bytes())))
    }
}

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
