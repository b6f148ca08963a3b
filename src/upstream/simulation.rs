//! Deterministic simulation of queue, hold, retry, health and drain, on a paused clock and without sockets: requests
//! arrive, servers stop, hang and recover, operators drain and reload. A seed decides everything.
//!
//! `SEED=7` runs one seed, `SEEDS=100000` runs that many (`make simulate`).

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::join_all;
use http::Method;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    NoServer, ResponseOutcome, Selection, Server, Upstream,
    health::{self, HealthReply, Probe},
    retry::{self, Attempt, Decision, Failure},
    tests::settings,
};
use crate::{config, observe::HoldMetrics};

/// Default number of seeds.
const SEEDS: u64 = 1_000;

/// Milliseconds during which requests arrive and events happen; after that every server is up.
const EVENTS_END: u64 = 20_000;

/// Longest time that a request may wait beside a server with room: a probe, and the time for which a server that has
/// recovered leaves waiting requests to others.
const LONGEST_STARVATION: Duration = Duration::from_millis(3_500);

const PATHS: [&str; 4] = ["/simulated/a", "/simulated/b", "/simulated/c", "/simulated/d"];

/// State of a simulated server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SimulatedMachine {
    /// Changes when the process dies, which cuts off what was in flight.
    life: u64,
    /// Whether connections are accepted.
    listens: bool,
    /// Whether connections are accepted and nothing else run_events.
    hangs: bool,
}

/// Processes by label of the server.
type Machines = Arc<BTreeMap<String, watch::Sender<SimulatedMachine>>>;

/// Probes a simulated process.
struct Simulated(Machines);

impl Probe for Simulated {
    async fn probe(&self, upstream: &Upstream, server: &Server) -> io::Result<HealthReply> {
        let machine = *self.0[&server.label].borrow();
        match (machine.listens, machine.hangs, &upstream.settings().health) {
            (false, ..) => Err(io::ErrorKind::ConnectionRefused.into()),
            (true, true, Some(health)) => {
                sleep(health.timeout).await;
                Ok(HealthReply::TimedOut)
            }
            (true, ..) => Ok(HealthReply::Healthy),
        }
    }
}

/// A simulated request.
#[derive(Debug, Clone)]
struct Plan {
    arrives: Duration,
    idempotent: bool,
    is_stream: bool,
    hold: Duration,
    /// Time that the server finishes_work on the request.
    work: Duration,
    /// Duration of the response body.
    body: Duration,
    /// Time after which the client leaves.
    patience: Duration,
}

/// Outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// 503: no server.
    Refused,
    /// 502: a retry is not safe.
    Broken,
    Left,
}

/// State of one run.
struct World {
    upstream: Arc<Upstream>,
    machines: Machines,
    /// Times that a server has begun to work on each request.
    begun: Mutex<BTreeMap<usize, usize>>,
    /// Time of the last reload.
    reloaded: Mutex<Option<Instant>>,
}

fn list(servers: &[usize], max_requests: Option<usize>, health_checks: bool) -> config::UpstreamSettings {
    let servers: Vec<_> = servers.iter().map(|&server| (PATHS[server], max_requests)).collect();
    let health = health_checks.then(|| config::Health {
        path: "/".into(),
        host: None,
        headers: Vec::new(),
        expect: Vec::new(),
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
    });
    config::UpstreamSettings { queue: 1000, health, ..settings(&servers) }
}

impl World {
    fn new(first: &config::UpstreamSettings) -> Arc<Self> {
        let well = SimulatedMachine { life: 0, listens: true, hangs: false };
        let machines: Machines =
            Arc::new(PATHS.map(|path| (format!("unix:{path}"), watch::Sender::new(well))).into());
        let probed = Arc::clone(&machines);
        let watch = move |upstream: &Arc<Upstream>, server: &Arc<Server>| {
            let probe = Simulated(Arc::clone(&probed));
            let prober = tokio::spawn(health::run(Arc::downgrade(upstream), Arc::clone(server), probe));
            server.set_prober(prober.abort_handle());
        };
        let upstream = Upstream::new(first, HoldMetrics::unregistered(), Box::new(watch));
        upstream.change(first);
        Arc::new(Self { upstream, machines, begun: Mutex::default(), reloaded: Mutex::default() })
    }

    /// Runs a request from its arrival to its end.
    async fn request(&self, id: usize, plan: &Plan) -> Fate {
        sleep(plan.arrives).await;
        timeout(plan.patience, self.attempts(id, plan)).await.unwrap_or(Fate::Left)
    }

    async fn attempts(&self, id: usize, plan: &Plan) -> Fate {
        let (mut turn, mut tries, mut failed_connects) = (Selection::default(), 0, 0);
        turn.set_stream(plan.is_stream);
        let method = if plan.idempotent { Method::GET } else { Method::POST };
        loop {
            sleep(retry::pause(tries, failed_connects)).await;
            let mut lease = match self.upstream.acquire(&mut turn, plan.hold).await {
                Ok(lease) => lease,
                Err(NoServer::Gone) => panic!("nobody has taken the upstream away"),
                Err(_) => return Fate::Refused,
            };
            let server = Arc::clone(lease.server());
            self.assert_room(&server, plan.is_stream);
            let mut machine = self.machines[&server.label].subscribe();
            let before = *machine.borrow_and_update();
            let failure = if !before.listens {
                failed_connects += 1;
                self.upstream.failed(&server, "refused");
                Failure::Connect
            } else {
                lease.connected();
                lease.sent();
                (tries, failed_connects) = (tries + 1, 0);
                *self.begun().entry(id).or_default() += 1;
                if !self.finishes_work(&mut machine, before.life, plan.work).await {
                    self.upstream.cut(&server);
                    lease.broke();
                    Failure::BeforeResponse
                } else {
                    lease.response_begun(
                        if plan.is_stream { ResponseOutcome::Stream } else { ResponseOutcome::Success },
                        None,
                    );
                    sleep(plan.body).await;
                    return Fate::Answered;
                }
            };
            let attempt = Attempt {
                failure,
                method: &method,
                repeatable: false,
                replayable: true,
                reused: false,
                tries,
                most_tries: 4,
                failed_connects,
                budget: self.upstream.may_retry(),
            };
            if retry::decide(&attempt) == Decision::GiveUp {
                return Fate::Broken;
            }
            if failure == Failure::BeforeResponse {
                self.upstream.retries();
                turn.avoid(&server);
            }
        }
    }

    /// Whether a process finishes its work before it dies. A process that hangs makes no progress.
    async fn finishes_work(
        &self,
        machine: &mut watch::Receiver<SimulatedMachine>,
        life: u64,
        mut work: Duration,
    ) -> bool {
        loop {
            let SimulatedMachine { hangs, life: now, .. } = *machine.borrow_and_update();
            if now != life {
                return false;
            }
            let began = Instant::now();
            tokio::select! {
                () = sleep(work), if !hangs => return true,
                changed = machine.changed() => changed.expect("the machine outlives its requests"),
            }
            if !hangs {
                work = work.saturating_sub(began.elapsed());
            }
        }
    }

    /// Asserts that a server that has just been chosen had room.
    fn assert_room(&self, server: &Arc<Server>, is_stream: bool) {
        let is_same = |standing: &&super::Standing| Arc::ptr_eq(&standing.server, server);
        let most = self.upstream.servers().iter().find(is_same).and_then(|standing| standing.max_requests);
        // A reload at this very moment may have lowered the limit.
        let reloaded = *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(most) = most.filter(|_| !is_stream && reloaded != Some(Instant::now())) {
            let load = server.load(20);
            assert!(
                load < (most as u64 + 1) * 100,
                "a load of {load} on a server that may have {most} requests"
            );
        }
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, usize>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, server: usize, change: impl FnOnce(&mut SimulatedMachine)) {
        self.machines[&format!("unix:{}", PATHS[server])].send_modify(change);
    }

    /// Whether a server could take another request.
    fn has_room(&self) -> bool {
        self.upstream.servers().iter().any(|standing| {
            let (server, machine) = (&standing.server, *self.machines[&standing.server.label].borrow());
            let full = standing.max_requests.is_some_and(|most| server.load(20) >= most as u64 * 100);
            machine.listens && !machine.hangs && !server.is_draining() && !full
        })
    }

    /// Asserts continuously that no request waits beside a server with room.
    async fn assert_no_starvation(&self) {
        let mut since = None;
        loop {
            sleep(Duration::from_millis(250)).await;
            let starves = self.upstream.waiting() > 0 && self.has_room();
            let start = *since.get_or_insert_with(Instant::now);
            if !starves {
                since = None;
            } else if start.elapsed() > LONGEST_STARVATION {
                panic!("{} wait beside a server with room", self.upstream.waiting());
            }
        }
    }
}

/// Stops, hangs, restarts, drains and reloads servers; in the end every server is up.
async fn run_events(world: &World, random: &mut Rng, count: usize, health_checks: bool) {
    let mut times: Vec<u64> = (0..random.usize(0..12)).map(|_| random.u64(0..EVENTS_END)).collect();
    times.sort_unstable();
    let start = Instant::now();
    for time in times {
        tokio::time::sleep_until(start + Duration::from_millis(time)).await;
        let server = random.usize(0..count);
        match random.u8(0..8) {
            0 | 1 => world.change(server, |machine| {
                *machine = SimulatedMachine { life: machine.life + 1, listens: false, hangs: false }
            }),
            2 | 3 => world.change(server, |machine| machine.listens = true),
            4 => world.change(server, |machine| machine.hangs = machine.listens),
            5 => world.change(server, |machine| machine.hangs = false),
            6 => {
                let servers = world.upstream.servers();
                let standing = random.choice(&servers).expect("there is one");
                world.upstream.drain(&standing.server, random.bool());
            }
            _ => {
                let amount = random.usize(1..=count);
                let servers = random.choose_multiple(0..count, amount);
                *world.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                world.upstream.change(&list(
                    &servers,
                    random.choice([None, Some(1), Some(3)]).flatten(),
                    health_checks,
                ));
            }
        }
    }
    tokio::time::sleep_until(start + Duration::from_millis(EVENTS_END)).await;
    for server in 0..PATHS.len() {
        world.change(server, |machine| (machine.listens, machine.hangs) = (true, false));
    }
    for standing in world.upstream.servers() {
        world.upstream.drain(&standing.server, false);
    }
}

fn plan(random: &mut Rng) -> Plan {
    let milliseconds = |random: &mut Rng, most| Duration::from_millis(random.u64(0..=most));
    let most_work = random.choice([5, 200, 4_000]).expect("one of three");
    Plan {
        arrives: milliseconds(random, EVENTS_END),
        idempotent: random.bool(),
        is_stream: random.u8(0..5) == 0,
        hold: Duration::from_secs(random.choice([0, 3, 300]).expect("one of three")),
        work: milliseconds(random, most_work),
        body: milliseconds(random, 500),
        patience: if random.u8(0..8) == 0 { milliseconds(random, 3_000) } else { Duration::from_secs(3_600) },
    }
}

async fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    // Seeds the random numbers of the code under test.
    fastrand::seed(seed);
    let (count, health_checks) = (random.usize(1..=PATHS.len()), random.bool());
    let servers: Vec<_> = (0..count).collect();
    let world = World::new(&list(&servers, random.choice([None, Some(1), Some(3)]).flatten(), health_checks));
    let plans: Vec<_> = (0..random.usize(1..40)).map(|_| plan(&mut random)).collect();
    let requests = plans.iter().enumerate().map(|(id, plan)| world.request(id, plan));
    let story = async {
        // Requests and events run at once. All of it ends, because no work and no hold is endless.
        let all = async {
            tokio::join!(join_all(requests), run_events(&world, &mut random, count, health_checks)).0
        };
        timeout(Duration::from_secs(1_000), all).await.expect("a request is lost: it never ends")
    };
    let fates = tokio::select! {
        fates = story => fates,
        () = world.assert_no_starvation() => unreachable!("it assert_no_starvation for ever"),
    };
    for (id, (plan, fate)) in plans.iter().zip(&fates).enumerate() {
        let begun = world.begun().get(&id).copied().unwrap_or_default();
        assert!(plan.idempotent || begun <= 1, "{plan:?} is sent {begun} times");
        assert!(*fate != Fate::Answered || begun >= 1, "{plan:?} is answered by nobody");
        assert!(*fate != Fate::Broken || begun >= 1, "{plan:?} has reached nobody, and is not held");
        let held_for_long = plan.hold.as_secs() == 300 && *fate == Fate::Refused;
        assert!(!held_for_long, "{plan:?} is refused, and servers were back after {EVENTS_END} ms");
    }
    assert_eq!(world.upstream.waiting(), 0);
    for standing in world.upstream.servers() {
        let server = &standing.server;
        assert_eq!((server.inflight(), server.streaming(), server.streams()), (0, 0, 0), "{}", server.label);
    }
    assert!(!world.upstream.has_retired(), "servers that have left are forgotten");
    world.upstream.retire();
}

/// Runs seeds on this thread; returns the first that fails.
fn run_all(seeds: impl Iterator<Item = u64>) -> Option<u64> {
    let mut failed = None;
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        if catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(seed)))).is_err() {
            failed = Some(seed);
            break;
        }
    }
    failed
}

#[test]
fn nothing_is_lost_or_done_twice_and_nobody_starves() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        assert_eq!(run_all([seed].into_iter()), None);
        return;
    }
    let (seeds, threads) = (number("SEEDS").unwrap_or(SEEDS), 2);
    let failed = std::thread::scope(|scope| {
        let halves = (0..threads)
            .map(|thread| scope.spawn(move || run_all((thread..seeds).step_by(threads as usize))));
        let halves: Vec<_> = halves.collect();
        halves.into_iter().filter_map(|half| half.join().expect("panics are caught")).min()
    });
    assert_eq!(failed, None, "the seed that fails; run it alone with SEED=");
}
