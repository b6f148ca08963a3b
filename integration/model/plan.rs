//! Plans of requests: their bytes, the acts of servers, and what clients may see of that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

/// A request and its fate.
#[derive(Debug, Clone)]
pub struct Plan {
    pub id: usize,
    pub method: &'static str,
    pub body: Vec<u8>,
    pub framing: Framing,
    pub expects: bool,
    pub client: Client,
    /// What servers do with it, the first time, the second, …; the last goes for all that follow.
    pub acts: Vec<Act>,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    /// With the connection; for responses only.
    Close,
}

/// What a client does beside sending and receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Waits,
    /// Pauses within its body.
    IsSlow,
    /// Leaves in the middle of its body.
    LeavesUploading,
    /// Leaves after some bytes of the response.
    LeavesDownloading,
}

/// What a server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    pub reads: Reads,
    pub interim: usize,
    pub response: Response,
    /// Closes the connection behind its response without having said so.
    pub closes: bool,
}

/// How much of the body a server reads before it responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Whole,
    Half,
    Nothing,
}

/// How a server responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// With content of its own for each request and attempt.
    Whole { framing: Framing, size: usize },
    /// A whole response cut after so many bytes, by a reset or in order.
    Cut { framing: Framing, size: usize, after: usize, reset: bool },
    /// Not at all.
    Dies { reset: bool },
    /// With an internal redirect.
    Redirects,
}

/// What a client has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A response that it takes for complete.
    Whole {
        status: u16,
        body: Vec<u8>,
    },
    /// A part of one.
    Part {
        status: u16,
    },
    Nothing,
}

/// What became of everything.
pub struct Account {
    pub plans: Vec<Plan>,
    arrivals: Mutex<Vec<Arrivals>>,
}

#[derive(Debug, Clone, Default)]
struct Arrivals {
    /// How often a server got the head of the request.
    app: usize,
    /// Bodies that servers took for complete.
    wrong_bodies: Vec<usize>,
    /// Oddities of the request as servers got it.
    odd: Vec<String>,
    seen: Option<Seen>,
    /// Another request before it on its connection may have cost it its response.
    excused: bool,
}

/// The content of a response: nobody else's looks like it.
pub fn content(who: &str, size: usize) -> Vec<u8> {
    let token = format!("[{who}]");
    token.bytes().cycle().take(size).collect()
}

impl Plan {
    pub fn draw(random: &mut Rng, id: usize) -> Self {
        let method =
            *random.choice(&["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS"]).expect("one");
        let has_body = method == "PUT" || random.u8(0..4) < if method == "POST" { 2 } else { 1 };
        let acts: Vec<_> = (0..random.usize(1..=3)).map(|_| Act::draw(random)).collect();
        // What is left unread must be more than the sockets between hold, or nobody notices.
        let large = if acts[0].reads == Reads::Whole { 1_000_000 } else { 12_000_000 };
        let size = *random.choice(&[1, 700, 70_000, large]).expect("one");
        // What a server leaves unread looks like requests to it.
        let smuggled = format!("GET /evil/{id} HTTP/1.1\r\nHost: x\r\n\r\n");
        let body = if has_body {
            smuggled.bytes().cycle().take(size.max(smuggled.len())).collect()
        } else {
            Vec::new()
        };
        let client = match random.u8(0..20) {
            0 if has_body => Client::LeavesUploading,
            1 => Client::LeavesDownloading,
            2 => Client::IsSlow,
            _ => Client::Waits,
        };
        Self {
            id,
            method,
            body,
            framing: if random.bool() { Framing::Length } else { Framing::Chunked },
            expects: has_body && random.u8(0..6) == 0,
            client,
            acts,
        }
    }

    pub fn act(&self, attempt: usize) -> Act {
        self.acts[attempt.min(self.acts.len() - 1)]
    }

    fn is_repeatable(&self) -> bool {
        self.method != "POST"
    }

    /// Nothing happens to it that could cost it its response.
    fn is_good(&self) -> bool {
        let act = self.act(0);
        let is_whole = matches!(act.response, Response::Whole { .. });
        self.client != Client::LeavesUploading
            && self.client != Client::LeavesDownloading
            && is_whole
            && (act.reads == Reads::Whole || self.body.is_empty())
    }

    /// The name that stands all over the content of this attempt.
    pub fn who(&self, attempt: usize) -> String {
        format!("{}:{attempt}", self.id)
    }

    /// The content of the whole response to this attempt, if that is one.
    fn whole(&self, attempt: usize) -> Option<Vec<u8>> {
        match self.act(attempt).response {
            Response::Whole { size, .. } if self.method != "HEAD" => Some(content(&self.who(attempt), size)),
            Response::Whole { .. } => Some(Vec::new()),
            Response::Redirects if self.method == "HEAD" => Some(Vec::new()),
            Response::Redirects => Some(content(&format!("inner:{}", self.id), 500)),
            Response::Cut { .. } if self.method == "HEAD" => Some(Vec::new()),
            Response::Cut { .. } | Response::Dies { .. } => None,
        }
    }
}

impl Act {
    fn draw(random: &mut Rng) -> Self {
        let reads = match random.u8(0..8) {
            0 => Reads::Half,
            1 | 2 => Reads::Nothing,
            _ => Reads::Whole,
        };
        let framing = *random.choice(&[Framing::Length, Framing::Chunked, Framing::Close]).expect("one");
        let size = *random.choice(&[0, 10, 5_000, 400_000]).expect("one");
        let response = match random.u8(0..10) {
            0 => Response::Dies { reset: random.bool() },
            1 | 2 if size > 0 => {
                Response::Cut { framing, size, after: random.usize(0..size), reset: random.bool() }
            }
            3 => Response::Redirects,
            _ => Response::Whole { framing, size },
        };
        let interim = if random.u8(0..10) == 0 { 2 } else { 0 };
        Self { reads, interim, response, closes: random.u8(0..8) == 0 }
    }
}

impl Account {
    pub fn new(plans: Vec<Plan>) -> Self {
        let arrivals = Mutex::new(vec![Arrivals::default(); plans.len()]);
        Self { plans, arrivals }
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrivals>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request at a server; the number of the attempt.
    pub fn arrives(&self, id: usize, method: &str) -> usize {
        let mut arrivals = self.arrivals();
        if method != self.plans[id].method {
            arrivals[id].odd.push(format!("a server was asked by {method}"));
        }
        arrivals[id].app += 1;
        arrivals[id].app - 1
    }

    /// A server takes this for the whole body of a request.
    pub fn body(&self, id: usize, body: &[u8]) {
        if body != self.plans[id].body {
            self.arrivals()[id].wrong_bodies.push(body.len());
        }
    }

    pub fn seen(&self, id: usize, seen: Seen, excused: bool) {
        let arrivals = &mut self.arrivals()[id];
        assert!(arrivals.seen.is_none(), "a client sends each request once");
        (arrivals.seen, arrivals.excused) = (Some(seen), excused);
    }

    /// Compares all that was seen with what may be.
    pub fn judge(&self, seed: u64) {
        for (plan, arrivals) in self.plans.iter().zip(self.arrivals().iter()) {
            let wrong = |what: &str| {
                let (id, method, sent) = (plan.id, plan.method, plan.body.len());
                let (framing, client, acts) = (plan.framing, plan.client, &plan.acts);
                let seen = match &arrivals.seen {
                    Some(Seen::Whole { status, body }) => {
                        let begins = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
                        format!("a whole response, {status}, {} bytes: {begins:?}", body.len())
                    }
                    other => format!("{other:?}"),
                };
                panic!(
                    "MODEL_SEED={seed}: {what}\n{method} {id}, {sent} bytes by {framing:?}, expects: {}, client {client:?}\n\
                     {acts:#?}\nseen: {seen}\nat servers: {} times, wrong bodies {:?}, odd {:?}",
                    plan.expects, arrivals.app, arrivals.wrong_bodies, arrivals.odd
                );
            };
            if !plan.is_repeatable() && arrivals.app > 1 {
                wrong("what must not be repeated was");
            }
            if !arrivals.wrong_bodies.is_empty() {
                wrong("a server took for complete what was not sent");
            }
            if !arrivals.odd.is_empty() {
                wrong("a server was asked for something else");
            }
            match &arrivals.seen {
                Some(Seen::Whole { status: 200, body }) => {
                    let attempts = (0..arrivals.app).filter_map(|attempt| plan.whole(attempt));
                    if !attempts.into_iter().any(|whole| whole == *body) {
                        wrong("a client took for complete what no server has sent whole");
                    }
                }
                Some(Seen::Whole { .. } | Seen::Part { .. } | Seen::Nothing) => {
                    if plan.is_good() && !arrivals.excused {
                        wrong("a request that nothing happened to was not answered");
                    }
                }
                None => wrong("a client has not told what it has seen"),
            }
            if plan.is_good() && !arrivals.excused && arrivals.app != 1 {
                wrong("a request that nothing happened to has not reached one server once");
            }
        }
    }
}
