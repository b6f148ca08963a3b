//! What is asked.

use super::*;

pub(super) const PATHS: &[&str] = &[
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

pub(super) const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "TRACE", "BREW"];

/// One part of a file.
pub(super) const SINGLE: &[&str] = &[
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
pub(super) const BEYOND: &[&str] =
    &["bytes=102400-", "bytes=99999999-", "bytes=500000-500001", "bytes=-0", "bytes=200000-,300000-"];

/// Nothing that could be understood.
pub(super) const MALFORMED: &[&str] = &[
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
pub(super) const FOREIGN: &[&str] = &["lines=1-2", "bytes 0-1", "bytes=", "=1-2", "none"];

/// Several parts of a large file, far from each other.
pub(super) const SEVERAL: &[&str] = &[
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
pub(super) const NEAR: &[(&str, &str)] = &[
    ("bytes=0-1,4-5", "bytes=0-5"),
    ("bytes=0-99,50-149", "bytes=0-149"),
    ("bytes=1000-1999,0-9,1500-2500", "bytes=1000-2500,0-9"),
    ("bytes=0-9,0-9,0-9", "bytes=0-9"),
    // More than the whole.
    ("bytes=0-,0-", "bytes=0-"),
    ("bytes=0-30000,10-30010", "bytes=0-30010"),
    ("bytes=-20000,-30000", "bytes=-30000"),
];

pub(super) const CODINGS: &[&str] = &[
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

pub(super) const TAGS: &[&str] = &[
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

pub(super) const DATES: &[&str] = &[
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

pub(super) const CONDITIONS: &[(&str, &[&str])] = &[
    ("if-match", TAGS),
    ("if-none-match", TAGS),
    ("if-modified-since", DATES),
    ("if-unmodified-since", DATES),
];

/// First everything by itself, then hundreds of combinations, the same ones each time.
pub(super) fn cases() -> Vec<Case> {
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
pub(super) fn combination(rng: &mut Rng) -> Case {
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
