//! The same requests to us and to Debian's nginx, over the same tree of files: equal answers, except where a line in
//! [`EXCEPTIONS`] says why not.

mod exceptions;
mod requests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    fs::File,
    time::{Duration, SystemTime},
};

use fastrand::Rng;

use self::{exceptions::*, requests::*};
use crate::fixtures::{Answer, Nginx, Proxy, Scratch, Target, Wire, noise};

const OURS: &str = r#"
[[site]]
[site.routes]
"/static" = { files = "@ROOT@", expires = "24h", precompressed = true, index = ["index.html"] }
"#;

/// Texts have a charset and neighbours are looked for, as we do; the rest is as it comes.
const THEIRS: &str = "location /static/ {
    alias @ROOT@/; index index.html; expires 24h; gzip_static on; gzip_vary on;
    charset utf-8; charset_types text/css text/plain application/javascript;
}";

/// Every file was last written at this time, except those that are to be older.
const WRITTEN: &str = "Tue, 02 Jan 2024 03:04:05 GMT";
const OLDER: &str = "Mon, 01 Jan 2024 03:04:05 GMT";
const NEWER: &str = "Wed, 03 Jan 2024 03:04:05 GMT";
const FUTURE: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

/// A request. In the values of its fields, `@ETAG@` stands for the tag that the server gives the file.
#[derive(Debug, Clone, PartialEq)]
struct Case {
    method: &'static str,
    path: String,
    fields: Vec<(&'static str, String)>,
}

impl Case {
    fn new(method: &'static str, path: &str) -> Self {
        Self { method, path: path.into(), fields: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn reads(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| *known != name);
    }

    fn replace(&mut self, name: &str, value: &str) {
        self.fields.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, old)| *old = value.into());
    }

    /// What a range with parts near each other comes to.
    fn near(&self) -> Option<&'static str> {
        NEAR.iter().find(|(asked, _)| self.field("range") == Some(asked)).map(|(_, instead)| *instead)
    }

    fn name_nothing(&mut self) {
        self.path = "/static/none.css".into();
    }
}

/// What counts of an answer. Of what is no success, that is not the page for people.
#[derive(Clone, PartialEq)]
struct Seen {
    status: u16,
    fields: BTreeMap<&'static str, String>,
    body: Vec<u8>,
}

impl Seen {
    const SUCCESS: &[&str] = &[
        "content-type",
        "content-length",
        "content-range",
        "content-encoding",
        "last-modified",
        "etag",
        "cache-control",
        "expires",
        "vary",
        "accept-ranges",
    ];
    const NOT_MODIFIED: &[&str] = &["last-modified", "etag", "cache-control", "expires", "vary"];
    const OTHERWISE: &[&str] = &["location", "content-range", "allow"];

    /// `etag` is that of the whole file.
    fn of(answer: &Answer, etag: &str) -> Self {
        let counted = match answer.status {
            204 => Self::OTHERWISE,
            200..300 => Self::SUCCESS,
            304 => Self::NOT_MODIFIED,
            _ => Self::OTHERWISE,
        };
        let there = counted.iter().filter(|name| answer.headers.contains_key(**name));
        let mut fields: BTreeMap<_, _> = there.map(|name| (*name, answer.header(name))).collect();
        let mut body = answer.body.to_vec();
        if !(200..300).contains(&answer.status) {
            body.clear();
        }
        if answer.status == 206 {
            // They may say it or not: the answer shows it.
            fields.remove("accept-ranges");
        }
        if let Some(boundary) = fields
            .get("content-type")
            .and_then(|kind| kind.split_once("boundary="))
            .map(|(_, it)| it.to_owned())
        {
            body = String::from_utf8_lossy(&body).replace(&boundary, "BOUNDARY").into_bytes();
            fields.insert("content-type", "multipart/byteranges; boundary=BOUNDARY".into());
            fields.insert("content-length", body.len().to_string());
        }
        fields.entry("etag").and_modify(|tag| {
            if tag == etag {
                *tag = "of the file".into();
            }
        });
        fields.entry("expires").and_modify(|expires| {
            let date = |text: &str| httpdate::parse_http_date(text).expect("a date");
            let after = date(expires).duration_since(date(&answer.header("date"))).unwrap_or_default();
            // Two clocks that may be read on both sides of a second.
            *expires = format!("after about {} minutes", (after.as_secs() + 30) / 60);
        });
        Self { status: answer.status, fields, body }
    }

    fn remove(&mut self, name: &str) {
        self.fields.remove(name);
    }

    fn replace(&mut self, name: &str, value: &str) {
        self.fields.get_mut(name).into_iter().for_each(|old| *old = value.into());
    }

    /// What has no good path is answered before its method is looked at.
    fn refuse_method(&mut self, status: u16) {
        if self.status != 400 {
            let allow = BTreeMap::from([("allow", "GET, HEAD".into())]);
            *self = Self { status, fields: allow, body: Vec::new() };
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(30)]);
        write!(f, "{} {:?} {} bytes {start:?}", self.status, self.fields, self.body.len())
    }
}

/// A server, and the tags that it gives to files.
struct Server {
    target: Target,
    tags: HashMap<(String, Option<String>), String>,
}

impl Server {
    fn new(target: Target) -> Self {
        Self { target, tags: HashMap::new() }
    }

    async fn answer(&mut self, case: &Case) -> Seen {
        // A range is one of the content as it is.
        let coding = case.field("accept-encoding").filter(|_| !case.has("range")).map(str::to_owned);
        let key = (case.path.clone(), coding);
        if !self.tags.contains_key(&key) {
            let mut head = Case::new("HEAD", &case.path);
            head.fields.extend(key.1.clone().map(|coding| ("accept-encoding", coding)));
            let tag = self.send(&head, "").await.header("etag");
            self.tags.insert(key.clone(), tag);
        }
        let tag = self.tags[&key].clone();
        Seen::of(&self.send(case, &tag).await, &tag)
    }

    /// The answer that we ought to give, with all exceptions but one, and which of them have to do with it.
    async fn corrected(&mut self, case: &Case, without: Option<usize>) -> (Seen, Vec<usize>) {
        let (mut asked, mut applied) = (case.clone(), Vec::new());
        for (number, exception) in EXCEPTIONS.iter().enumerate() {
            if without != Some(number) && (exception.to)(&asked) {
                applied.push(number);
                if let Rather::To(change) = exception.answer {
                    change(&mut asked);
                }
            }
        }
        let mut seen = self.answer(&asked).await;
        for number in &applied {
            if let Rather::With(change) = EXCEPTIONS[*number].answer {
                change(&mut seen);
            }
        }
        (seen, applied)
    }

    async fn send(&self, case: &Case, tag: &str) -> Answer {
        let mut wire = Wire::to(&self.target).await;
        let fields = case.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let fields: String = fields.collect::<String>().replace("@ETAG@", tag);
        let Case { method, path, .. } = case;
        // The other side may refuse before it has read everything.
        let _ = wire
            .try_send(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
            ))
            .await;
        let answer = wire.answer_to(method).await.unwrap_or_else(|| panic!("no answer to {case:?}"));
        let rest = wire.rest().await;
        assert!(rest.is_empty(), "{} bytes after the answer to {case:?}: {answer:?}", rest.len());
        answer
    }
}

#[tokio::test]
async fn answers_are_those_of_nginx_or_there_is_a_reason() {
    let scratch = tree();
    let root = scratch.path("root");
    let proxy = Proxy::toml(OURS).fill("ROOT", root.display()).start().await;
    let nginx = Nginx::start(&THEIRS.replace("@ROOT@", &root.display().to_string())).await;
    let (mut ours, mut theirs) = (Server::new(proxy.target()), Server::new(nginx.target()));

    let cases = cases();
    let (mut needed, mut equal, mut differences) = (HashSet::new(), 0, Vec::new());
    for case in &cases {
        let seen = ours.answer(case).await;
        let (expected, applied) = theirs.corrected(case, None).await;
        if seen != expected {
            differences
                .push(format!("{case:?}, by {applied:?}\n  ours     {seen:?}\n  expected {expected:?}"));
        }
        equal += usize::from(applied.is_empty());
        for number in applied {
            if !needed.contains(&number) && theirs.corrected(case, Some(number)).await.0 != seen {
                needed.insert(number);
            }
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(equal >= 300, "only {equal} of {} without an exception", cases.len());
    for (number, exception) in EXCEPTIONS.iter().enumerate() {
        assert!(needed.contains(&number), "nothing needs it: {}", exception.why);
    }
}

/// A folder `root` to serve, and a file beside it.
fn tree() -> Scratch {
    let scratch = Scratch::new();
    let long = "n".repeat(255);
    for (name, content) in [
        ("style.css", "body { color: black }"),
        ("app.js", "the original, which is longer"),
        ("app.js.gz", "gzipped"),
        ("stale.js", "a newer original"),
        ("stale.js.gz", "gzipped before"),
        ("page.html", "<p>page</p>"),
        ("data.json", "{}"),
        ("noextension", "who knows"),
        ("notes.txt", "0123456789"),
        ("one.txt", "1"),
        ("empty.txt", ""),
        ("with space+plus.css", "a {}"),
        ("caf\u{e9}.css", "b {}"),
        ("percent%41.css", "c {}"),
        ("back\\slash.css", "d {}"),
        ("a:b;c,d=e&f@g!$'()*~.css", "e {}"),
        ("sub/deep.css", "f {}"),
        ("with/index.html", "<p>index</p>"),
        ("without/a.txt", "a"),
        ("di r\u{e9}/index.html", "<p>index</p>"),
        (".hidden", "SECRET"),
        (".git/config", "SECRET"),
        (".well-known/security.txt", "Contact: us"),
        ("../secret.txt", "SECRET"),
        (&long, "a long name"),
    ] {
        scratch.write(&format!("root/{name}"), content);
    }
    for (name, size) in
        [("below.bin", 32_767), ("at.bin", 32_768), ("above.bin", 32_769), ("large.txt", 102_400)]
    {
        scratch.write(&format!("root/{name}"), noise(size));
    }
    scratch.write("root/large.txt.gz", noise(40_000));
    write_times(&scratch.path("root"));
    let stale = File::open(scratch.path("root/stale.js.gz")).unwrap();
    stale.set_modified(httpdate::parse_http_date(OLDER).unwrap()).unwrap();
    scratch.link("root/in.css", "style.css");
    scratch.link("root/out.txt", scratch.path("secret.txt"));
    scratch.link("root/outside", scratch.root());
    scratch.link("root/broken.txt", "nothing");
    scratch
}

/// Between two seconds, as most files are.
fn write_times(folder: &std::path::Path) {
    let written: SystemTime = httpdate::parse_http_date(WRITTEN).unwrap() + Duration::from_millis(600);
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            write_times(&entry.path());
        } else {
            File::open(entry.path()).unwrap().set_modified(written).unwrap();
        }
    }
}
