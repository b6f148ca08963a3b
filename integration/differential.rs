//! The same requests to us and to Debian's nginx, over the same tree of files: equal answers, except where a line in
//! [`EXCEPTIONS`] says why not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    fs::File,
    time::{Duration, SystemTime},
};

use fastrand::Rng;

use crate::fixtures::{Answer, Nginx, Proxy, Scratch, Target, Wire, noise};

const OURS: &str = r#"
[[site]]
[site.routes]
"/static" = { files = "@ROOT@", expires = "24h", index = ["index.html"] }
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

/// Where we answer otherwise than nginx.
struct Exception {
    /// What we do, and why.
    why: &'static str,
    /// To which requests.
    to: fn(&Case) -> bool,
    /// What the answer is.
    answer: Rather,
}

enum Rather {
    /// That of nginx to another request.
    To(fn(&mut Case)),
    /// That of nginx with something changed.
    With(fn(&mut Seen)),
}

/// One after the other, each to what those before it have made of a request.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        why: "Only GET and HEAD are for files, whether they exist or not, and Allow says so (RFC 9110 §15.5.6).",
        to: |case| !case.reads() && case.method != "OPTIONS",
        answer: Rather::With(|seen| seen.refuse_method(405)),
    },
    Exception {
        why: "OPTIONS asks for just that, and is no mistake (RFC 9110 §9.3.7).",
        to: |case| case.method == "OPTIONS",
        answer: Rather::With(|seen| seen.refuse_method(204)),
    },
    Exception {
        why: "A slash that is encoded is part of a name (RFC 3986 §2.2), and no file has such a name.",
        to: |case| case.reads() && case.path.to_ascii_lowercase().contains("%2f"),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "Hidden files are nobody's business; 404 does not tell that they exist (RFC 9110 §15.5.5).",
        to: |case| case.reads() && (case.path.contains("/.hidden") || case.path.contains("/.git")),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "The same when a dot is encoded, which changes nothing (RFC 3986 §2.3).",
        to: |case| case.reads() && case.path.contains("/%2ehidden"),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "Symlinks do not lead out of the root (symlinks = \"inside\").",
        to: |case| case.reads() && case.path.starts_with("/static/out"),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "What is in a directory without an index is not told, nor that it is there (RFC 9110 §15.5.4).",
        to: |case| {
            let directories = ["/static/", "/static/without/", "/static/sub/..", "/static/with/.."];
            case.reads() && directories.contains(&&*case.path)
        },
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "The root of a route is a directory like those in it; nginx would need a second location to say so.",
        to: |case| case.reads() && case.path == "/static",
        answer: Rather::With(|seen| {
            let location = BTreeMap::from([("location", "/static/".into())]);
            *seen = Seen { status: 301, fields: location, body: Vec::new() };
        }),
    },
    Exception {
        why: "A percent sign without two digits is no escape; no file has the name as it stands (RFC 3986 §2.4).",
        to: |case| case.path.contains("%zz") || case.path.ends_with('%'),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "A neighbour that is older than the original holds something else; it is not one of its codings.",
        to: |case| case.path.ends_with("stale.js"),
        answer: Rather::To(|case| case.remove("accept-encoding")),
    },
    Exception {
        why: "So the answer does not vary either (RFC 9110 §12.5.5).",
        to: |case| case.reads() && case.path.ends_with("stale.js"),
        answer: Rather::With(|seen| seen.remove("vary")),
    },
    Exception {
        why: "The type of JavaScript is text/javascript by now (RFC 9239 §6).",
        to: |case| case.reads() && case.path.ends_with(".js"),
        answer: Rather::With(|seen| seen.replace("content-type", "text/javascript; charset=utf-8")),
    },
    Exception {
        why: "gzip has a type (RFC 6713 §3), which Debian's mime.types of nginx does not know.",
        to: |case| case.path.ends_with(".gz"),
        answer: Rather::With(|seen| seen.replace("content-type", "application/gzip")),
    },
    Exception {
        why: "A range is one of the content as it is, or parts of different downloads would not fit (RFC 9110 §14.2).",
        to: |case| case.has("range") && case.has("accept-encoding"),
        answer: Rather::To(|case| case.remove("accept-encoding")),
    },
    Exception {
        why: "An asterisk is every coding (RFC 9110 §12.5.3).",
        to: |case| case.field("accept-encoding") == Some("*"),
        answer: Rather::To(|case| case.replace("accept-encoding", "gzip")),
    },
    Exception {
        why: "x-gzip is gzip (RFC 9110 §8.4.1.3).",
        to: |case| case.field("accept-encoding") == Some("x-gzip"),
        answer: Rather::To(|case| case.replace("accept-encoding", "gzip")),
    },
    Exception {
        why: "Who likes the content as it is better gets it so (RFC 9110 §12.5.3).",
        to: |case| case.field("accept-encoding") == Some("identity, gzip;q=0.5"),
        answer: Rather::To(|case| case.remove("accept-encoding")),
    },
    Exception {
        why: "There are ranges of a file whatever its coding in this answer (RFC 9110 §14.3).",
        to: |case| {
            case.has("accept-encoding") && (case.path.ends_with("app.js") || case.path.ends_with("large.txt"))
        },
        answer: Rather::With(|seen| {
            if seen.fields.contains_key("content-encoding") {
                seen.fields.insert("accept-ranges", "bytes".into());
            }
        }),
    },
    Exception {
        why: "Only GET has ranges (RFC 9110 §14.2).",
        to: |case| case.method == "HEAD" && case.has("range"),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "A range that is malformed is ignored (RFC 9110 §14.2); 416 would tell that the file has another size.",
        to: |case| case.field("range").is_some_and(|range| MALFORMED.contains(&range)),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "Of an empty file everything is sent, which is nothing: 416 would be a mistake (RFC 9110 §14.2 allows it).",
        to: |case| case.path.ends_with("empty.txt") && case.has("range"),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "Empty elements of a list are nothing (RFC 9110 §5.6.1.2).",
        to: |case| case.field("range") == Some("bytes=0-0,"),
        answer: Rather::To(|case| case.replace("range", "bytes=0-0")),
    },
    Exception {
        why: "Ranges that overlap, or are nearer than the head of a part is long, are one (RFC 9110 §15.3.7.2).",
        to: |case| case.near().is_some(),
        answer: Rather::To(|case| case.replace("range", case.near().expect("one of these"))),
    },
    Exception {
        why: "More than a hundred ranges are somebody's attack (RFC 9110 §17.15).",
        to: |case| case.field("range").is_some_and(|range| range.matches(',').count() >= 100),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "A file is not modified since a later date either (RFC 9110 §13.1.3).",
        to: |case| case.field("if-modified-since").is_some_and(|date| [NEWER, FUTURE].contains(&date)),
        answer: Rather::To(|case| case.replace("if-modified-since", WRITTEN)),
    },
    Exception {
        why: "If-None-Match counts alone (RFC 9110 §13.1.3).",
        to: |case| case.has("if-none-match") && case.has("if-modified-since"),
        answer: Rather::To(|case| case.remove("if-modified-since")),
    },
    Exception {
        why: "If-Match counts alone (RFC 9110 §13.1.4).",
        to: |case| case.has("if-match") && case.has("if-unmodified-since"),
        answer: Rather::To(|case| case.remove("if-unmodified-since")),
    },
    Exception {
        why: "A date that is none is ignored (RFC 9110 §13.1.4).",
        to: |case| {
            case.field("if-unmodified-since").is_some_and(|date| httpdate::parse_http_date(date).is_err())
        },
        answer: Rather::To(|case| case.remove("if-unmodified-since")),
    },
];

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

const PATHS: &[&str] = &[
    "/static/style.css",
    "/static/style.css?version=1",
    "/static/app.js",
    "/static/app.js.gz",
    "/static/stale.js",
    "/static/page.html",
    "/static/data.json",
    "/static/noextension",
    "/static/notes.txt",
    "/static/one.txt",
    "/static/empty.txt",
    "/static/below.bin",
    "/static/at.bin",
    "/static/above.bin",
    "/static/large.txt",
    "/static/in.css",
    "/static/out.txt",
    "/static/outside/secret.txt",
    "/static/broken.txt",
    "/static/none.css",
    "/static/STYLE.CSS",
    "/static/style.css/",
    "/static/style.css/x",
    "/static/style.css.",
    "/static/style.css%20",
    "/static/",
    "/static",
    "/static/sub",
    "/static/with",
    "/static/with?a=b",
    "/static/with/",
    "/static/with/?a=b",
    "/static/with//",
    "/static//with",
    "//static/with",
    "/static/sub/../with",
    "/static/di%20r%C3%A9",
    "/static/di%20r%C3%A9/",
    "/static/without/",
    "/static/without/a.txt",
    "/static/none/",
    "/static/sub/deep.css",
    "/static/sub//deep.css",
    "//static///sub/deep.css",
    "/static/./sub/./deep.css",
    "/static/sub/../style.css",
    "/static/none/../style.css",
    "/static/style.css/../notes.txt",
    "/static/sub/..",
    "/static/with/.",
    "/static/with/..",
    "/static/%2e/style.css",
    "/static/sub/%2e%2e/style.css",
    "/static/sub/.%2E/style.css",
    "/static/../static/style.css",
    "/x/../static/style.css",
    "/static/../secret.txt",
    "/static/%2e%2e/secret.txt",
    "/static/../../secret.txt",
    "/static/%2e%2e/%2e%2e/secret.txt",
    "/static../secret.txt",
    "/static/.../style.css",
    "/static/..;/secret.txt",
    "/static/sub%2Fdeep.css",
    "/static/sub%2fdeep.css",
    "/static%2fstyle.css",
    "/static/..%2fsecret.txt",
    "/static/sub%252Fdeep.css",
    "/static/style.css%00",
    "/static/%00/style.css",
    "/static/style.css%00.txt",
    "/static/sub%5cdeep.css",
    "/static/sub\\deep.css",
    "/static/..\\secret.txt",
    "/static/back%5Cslash.css",
    "/static/back\\slash.css",
    "/static/%c0%ae%c0%ae/secret.txt",
    "/static/%c0%afstyle.css",
    "/static/%e0%80%af/style.css",
    "/static/%ff.css",
    "/static/caf%C3%A9.css",
    "/static/caf%c3%a9.css",
    "/static/caf%E9.css",
    "/static/caf\u{e9}.css",
    "/static/with%20space+plus.css",
    "/static/with+space+plus.css",
    "/static/with%20space%2Bplus.css",
    "/static/percent%2541.css",
    "/static/percent%41.css",
    "/static/percent%zz.css",
    "/static/percent%",
    "/static/%73tyle.css",
    "/%73tatic/style.css",
    "/static/a:b;c,d=e&f@g!$'()*~.css",
    "/static/a%3Ab%3Bc%2Cd%3De%26f%40g%21%24%27%28%29%2A~.css",
    "/static/style.css?",
    "/static/style.css?a=/../x&b=%00",
    "/static/style.css;v=1",
    "/static/.hidden",
    "/static/%2ehidden",
    "/static/sub/../.hidden",
    "/static/.git/config",
    "/static/.git/",
    "/static/.well-known/security.txt",
    "/elsewhere",
    "/",
    "http://localhost/static/style.css",
];

const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "TRACE", "BREW"];

/// One part of a file.
const SINGLE: &[&str] = &[
    "bytes=0-0",
    "bytes=2-5",
    "bytes=5-",
    "bytes=0-",
    "bytes=-4",
    "bytes=-1",
    "bytes=-400",
    "bytes=0-400",
    "bytes=9-",
    "bytes=100-200",
    "bytes=32760-32768",
    "bytes=1-99999999999",
    "bytes=-99999999999",
    "BYTES=1-3",
    "bytes=0-0,",
    "bytes= 2-3",
    "bytes=007-008",
];

/// Nothing of a file.
const BEYOND: &[&str] =
    &["bytes=102400-", "bytes=99999999-", "bytes=500000-500001", "bytes=-0", "bytes=200000-,300000-"];

/// Nothing that could be understood.
const MALFORMED: &[&str] = &[
    "bytes=-",
    "bytes=a-b",
    "bytes=5-1",
    "bytes=0-1,x",
    "bytes=1",
    "bytes=0-1-2",
    "bytes=--1",
    "bytes=0x1-2",
    "bytes=+1-2",
    "bytes=,",
];

/// Other units, which nobody knows.
const FOREIGN: &[&str] = &["lines=1-2", "bytes 0-1", "bytes=", "=1-2", "none"];

/// Several parts of a large file, far from each other.
const SEVERAL: &[&str] = &[
    "bytes=0-9,1000-1009",
    "bytes=1000-1009,0-9",
    "bytes=0-9, 500-509 ,-10",
    "bytes=-10,0-9",
    "bytes=0-9,9000000-",
    "bytes=9000000-,0-9",
    "bytes=10000-19999,0-99,30000-30001",
    "bytes=0-0,200-200,400-400,600-600,800-800,1000-1000",
];

/// Parts of a large file that are near each other or overlap, and what is sent of them.
const NEAR: &[(&str, &str)] = &[
    ("bytes=0-1,4-5", "bytes=0-5"),
    ("bytes=0-99,50-149", "bytes=0-149"),
    ("bytes=1000-1999,0-9,1500-2500", "bytes=1000-2500,0-9"),
    ("bytes=0-9,0-9,0-9", "bytes=0-9"),
    // More than the whole.
    ("bytes=0-,0-", "bytes=0-"),
    ("bytes=0-30000,10-30010", "bytes=0-30010"),
    ("bytes=-20000,-30000", "bytes=-30000"),
];

const CODINGS: &[&str] = &[
    "gzip",
    "gzip, deflate, br",
    "deflate, gzip",
    "gzip;q=0.5",
    "gzip;q=0.001",
    "gzip;q=0",
    "gzip;q=0.000",
    "gzip; q=0",
    "GZIP",
    "deflate",
    "br, zstd",
    "identity",
    "x-gzip",
    "*",
    "*;q=0",
    "gzip;q=0, *",
    "identity, gzip;q=0.5",
    "identity;q=0.5, gzip",
];

const TAGS: &[&str] = &[
    "@ETAG@",
    "W/@ETAG@",
    "\"x\"",
    "W/\"x\"",
    "\"x\", @ETAG@",
    "\"x\",\"y\",W/@ETAG@",
    "\"x\", \"y\"",
    "\"a,b\", @ETAG@",
    "*",
    "unquoted",
];

const DATES: &[&str] = &[
    WRITTEN,
    OLDER,
    NEWER,
    "Tuesday, 02-Jan-24 03:04:05 GMT",
    "Tue Jan  2 03:04:05 2024",
    "Tue, 02 Jan 2024 03:04:04 GMT",
    FUTURE,
    "yesterday",
    "1704164645",
    "Tue, 32 Jan 2024 03:04:05 GMT",
];

const CONDITIONS: &[(&str, &[&str])] = &[
    ("if-match", TAGS),
    ("if-none-match", TAGS),
    ("if-modified-since", DATES),
    ("if-unmodified-since", DATES),
];

/// First everything by itself, then hundreds of combinations, the same ones each time.
fn cases() -> Vec<Case> {
    let long: Vec<String> = [255, 256, 5000].map(|length| format!("/static/{}", "n".repeat(length))).into();
    let paths: Vec<&str> = PATHS.iter().copied().chain(long.iter().map(|path| &**path)).collect();
    let mut cases = Vec::new();
    for path in &paths {
        cases.extend(["GET", "HEAD"].map(|method| Case::new(method, path)));
    }
    for method in METHODS {
        let some = ["style.css", "none.css", "with", "with/", "without/", "sub%2Fdeep.css", "../../x", "%00"];
        cases.extend(some.map(|name| Case::new(method, &format!("/static/{name}"))));
    }
    for name in ["notes.txt", "one.txt", "empty.txt", "below.bin", "at.bin", "above.bin", "large.txt"] {
        let get = || Case::new("GET", &format!("/static/{name}"));
        let ranges = [SINGLE, BEYOND, MALFORMED, FOREIGN].concat();
        cases.extend(ranges.iter().map(|range| get().with("range", range)));
    }
    for name in ["below.bin", "at.bin", "above.bin", "large.txt"] {
        let get = || Case::new("GET", &format!("/static/{name}"));
        let several = SEVERAL.iter().chain(NEAR.iter().map(|(range, _)| range));
        cases.extend(several.map(|range| get().with("range", range)));
        for count in [50, 100, 101, 500] {
            let ranges: Vec<_> = (0..count).map(|at| format!("{at}00-{at}09")).collect();
            cases.push(get().with("range", &format!("bytes={}", ranges.join(","))));
        }
    }
    for name in ["notes.txt", "large.txt"] {
        let get = || Case::new("GET", &format!("/static/{name}"));
        for (field, values) in CONDITIONS {
            cases.extend(values.iter().map(|value| get().with(field, value)));
        }
        for value in [TAGS, DATES].concat() {
            cases.push(get().with("range", "bytes=2-5").with("if-range", value));
        }
    }
    for name in ["app.js", "stale.js", "large.txt", "style.css"] {
        let get = || Case::new("GET", &format!("/static/{name}"));
        cases.extend(CODINGS.iter().map(|coding| get().with("accept-encoding", coding)));
    }
    let mut rng = Rng::with_seed(0x5eed);
    cases.extend((0..500).map(|_| combination(&mut rng)));
    cases
}

/// A request with some of the fields that have to do with files, in any combination.
fn combination(rng: &mut Rng) -> Case {
    let method = ["GET", "GET", "GET", "HEAD"][rng.usize(..4)];
    let name = ["notes.txt", "app.js", "style.css", "below.bin", "above.bin", "large.txt"][rng.usize(..6)];
    let mut case = Case::new(method, &format!("/static/{name}"));
    let mut pick = |among: &[&'static str]| among[rng.usize(..among.len())];
    for (field, values) in CONDITIONS {
        if pick(&["yes", "no", "no"]) == "yes" {
            case = case.with(field, pick(values));
        }
    }
    if pick(&["yes", "no"]) == "yes" {
        let several = if matches!(name, "below.bin" | "above.bin" | "large.txt") { SEVERAL } else { SINGLE };
        case = case.with("range", pick(&[SINGLE, several, BEYOND, MALFORMED].concat()));
        if pick(&["yes", "no"]) == "yes" {
            case = case.with("if-range", pick(&[TAGS, DATES].concat()));
        }
    }
    if pick(&["yes", "no"]) == "yes" {
        case = case.with("accept-encoding", pick(CODINGS));
    }
    case
}
