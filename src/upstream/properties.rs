//! Property tests of an upstream, on a paused clock and with many threads: counts stay exact and no request goes to a
//! server that is out, whatever happens in whatever order.

use std::{collections::HashSet, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::{
    Lease, NoServer, ResponseOutcome, Selection, ServerHealth, Upstream,
    tests::{settings, with},
};
use crate::config;

/// An event in an upstream; numbers are indices, modulo the number of items.
#[derive(Debug, Clone)]
enum Event {
    Arrives { hold: u64, is_stream: bool },
    LeavesTheQueue(usize),
    Connects(usize),
    IsSent(usize),
    IsAnswered(usize, ResponseOutcome),
    TimesOut(usize),
    Ends(usize),
    IsTriedElsewhere(usize),
    Fails(usize),
    Recovers(usize),
    Drain(usize),
    Resume(usize),
    Reload { servers: Vec<usize>, max_requests: Option<usize> },
    Pass(u64),
}

const PATHS: [&str; 4] = ["/absent/a", "/absent/b", "/absent/c", "/absent/d"];

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    let index = 0..100_usize;
    prop_oneof![
        6 => (0..3_u64, prop::bool::weighted(0.3))
            .prop_map(|(hold, is_stream)| Arrives { hold: hold * 5_000, is_stream }),
        1 => index.clone().prop_map(LeavesTheQueue),
        2 => index.clone().prop_map(Connects),
        2 => index.clone().prop_map(IsSent),
        3 => (index.clone(), prop::sample::select(vec![ResponseOutcome::Success, ResponseOutcome::Failure, ResponseOutcome::Stream]))
            .prop_map(|(number, result)| IsAnswered(number, result)),
        1 => index.clone().prop_map(TimesOut),
        4 => index.clone().prop_map(Ends),
        1 => index.clone().prop_map(IsTriedElsewhere),
        1 => index.clone().prop_map(Fails),
        2 => index.clone().prop_map(Recovers),
        1 => index.clone().prop_map(Drain),
        1 => index.prop_map(Resume),
        1 => (prop::sample::subsequence(vec![0, 1, 2, 3], 1..=4), prop::option::of(1..4_usize))
            .prop_map(|(servers, max_requests)| Reload { servers, max_requests }),
        1 => (0..6_000_u64).prop_map(Pass),
    ]
}

type Waiting = JoinHandle<(Selection, Result<Lease, NoServer>)>;

/// An upstream with its waiting and running requests.
struct PropertyWorld {
    upstream: Arc<Upstream>,
    waiting: Vec<Waiting>,
    held: Vec<(Selection, Lease)>,
    max_requests: Option<usize>,
}

fn list(servers: &[usize], max_requests: Option<usize>) -> config::UpstreamSettings {
    let servers: Vec<_> = servers.iter().map(|&server| (PATHS[server], max_requests)).collect();
    config::UpstreamSettings { queue: 1000, ..settings(&servers) }
}

impl PropertyWorld {
    fn new() -> Self {
        let upstream = with(&list(&[0, 1, 2], Some(2)));
        Self { upstream, waiting: Vec::new(), held: Vec::new(), max_requests: Some(2) }
    }

    fn arrives(&mut self, mut turn: Selection, hold: Duration) {
        let upstream = Arc::clone(&self.upstream);
        self.waiting.push(tokio::spawn(async move {
            let lease = upstream.acquire(&mut turn, hold).await;
            (turn, lease)
        }));
    }

    /// Lets every task run as far as possible without time passing.
    async fn settle(&mut self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let (done, waiting) = self.waiting.drain(..).partition::<Vec<_>, _>(Waiting::is_finished);
        self.waiting = waiting;
        for task in done {
            if let Ok((turn, Ok(lease))) = task.await {
                self.held.push((turn, lease));
            }
        }
    }

    async fn apply(&mut self, event: Event) {
        let held = self.held.len();
        let servers = self.upstream.servers();
        let lease = |number: usize| number.checked_rem(held);
        let server = |number: usize| number.checked_rem(servers.len()).map(|number| &servers[number].server);
        match event {
            Event::Arrives { hold, is_stream } => {
                let mut turn = Selection::default();
                turn.set_stream(is_stream);
                self.arrives(turn, Duration::from_millis(hold));
            }
            Event::LeavesTheQueue(number) => {
                if let Some(number) = number.checked_rem(self.waiting.len()) {
                    self.waiting.swap_remove(number).abort();
                }
            }
            Event::Connects(number) => {
                if let Some(number) = lease(number) {
                    self.held[number].1.connected();
                }
            }
            Event::IsSent(number) => {
                if let Some(number) = lease(number) {
                    self.held[number].1.sent();
                }
            }
            Event::IsAnswered(number, result) => {
                if let Some(number) = lease(number) {
                    self.held[number].1.response_begun(result, None);
                }
            }
            Event::TimesOut(number) => {
                if let Some(number) = lease(number) {
                    let (_, lease) = self.held.swap_remove(number);
                    lease.timed_out();
                }
            }
            Event::Ends(number) => {
                if let Some(number) = lease(number) {
                    drop(self.held.swap_remove(number));
                }
            }
            Event::IsTriedElsewhere(number) => {
                if let Some(number) = lease(number) {
                    let (mut turn, lease) = self.held.swap_remove(number);
                    turn.avoid(lease.server());
                    drop(lease);
                    self.arrives(turn, Duration::from_secs(5));
                }
            }
            Event::Fails(number) => {
                server(number).into_iter().for_each(|server| self.upstream.failed(server, "test"));
            }
            Event::Recovers(number) => {
                server(number).into_iter().for_each(|server| self.upstream.recovered(server));
            }
            Event::Drain(number) => {
                server(number).into_iter().for_each(|server| self.upstream.drain(server, true));
            }
            Event::Resume(number) => {
                server(number).into_iter().for_each(|server| self.upstream.drain(server, false));
            }
            Event::Reload { servers, max_requests } => {
                self.upstream.change(&list(&servers, max_requests));
                self.max_requests = max_requests;
            }
            Event::Pass(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        }
    }

    /// Servers that may get a request now.
    fn usable(&self) -> HashSet<String> {
        let servers = self.upstream.servers().into_iter().map(|standing| standing.server);
        servers.filter(|server| server.is_usable(false)).map(|server| server.label.clone()).collect()
    }

    /// Asserts that the upstream counts exactly the leases that are held on each server.
    fn assert_counts(&self) {
        for standing in self.upstream.servers() {
            let here = self.held.iter().filter(|(_, lease)| Arc::ptr_eq(lease.server(), &standing.server));
            let (streams, requests) = here.partition::<Vec<_>, _>(|(_, lease)| lease.is_stream);
            let counted = (standing.server.streams(), standing.server.inflight());
            assert_eq!(counted, (streams.len(), requests.len()), "{}", standing.server.label);
            assert!(standing.server.streaming() <= standing.server.inflight());
        }
        assert_eq!(self.upstream.waiting(), self.waiting.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_exact_and_nobody_is_sent_to_a_server_that_is_out(
        events in prop::collection::vec(event(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = PropertyWorld::new();
            for event in events {
                let (before, held) = (world.usable(), world.held.len());
                let name = format!("{event:?}");
                let passes = matches!(event, Event::Pass(_));
                world.apply(event).await;
                // A server that a reload adds may be tried until it is known to be down.
                let between = world.usable();
                world.settle().await;
                let after = world.usable();
                for (_, lease) in world.held.iter().skip(held) {
                    let label = &lease.server().label;
                    let known = [&before, &between, &after];
                    let was_usable = known.iter().any(|usable| usable.contains(label));
                    // A request that would be refused because all servers are out may try one.
                    let all_were_out = known.iter().any(|usable| usable.is_empty()) && !lease.server().is_draining();
                    assert!(passes || was_usable || all_were_out, "{label} is out: {name}");
                }
                world.assert_counts();
            }
            // After the time for which a server that has recovered leaves requests to others, no request waits while
            // there is room.
            tokio::time::sleep(Duration::from_millis(2_100)).await;
            world.settle().await;
            if !world.upstream.lock().streams.is_empty() {
                let usable = world.usable();
                assert!(usable.is_empty(), "a stream waits, and {usable:?} could take it");
            }
            if !world.upstream.lock().queue.is_empty() {
                for standing in world.upstream.servers() {
                    let full = standing.max_requests.is_some_and(|most| {
                        standing.server.load(20) >= most as u64 * 100
                    });
                    assert!(full || !standing.server.is_usable(false), "somebody waits, and {} has room",
                        standing.server.label);
                }
            }
            // End all requests.
            world.waiting.drain(..).for_each(|task| task.abort());
            world.settle().await;
            world.held.clear();
            world.settle().await;
            world.assert_counts();
            assert!(!world.upstream.has_retired(), "servers that have left are forgotten");
        });
    }
}

/// Requests with every outcome, on several threads at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counts_return_to_zero_after_any_mix_on_many_threads() {
    let upstream = with(&list(&[0, 1, 2, 3], Some(3)));
    let servers: Vec<_> = upstream.servers().into_iter().map(|standing| standing.server).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..64 {
        let (upstream, servers) = (Arc::clone(&upstream), servers.clone());
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..200 {
                let mut turn = Selection::default();
                turn.set_stream(random.u8(0..4) == 0);
                let patience = Duration::from_micros(random.u64(0..2_000));
                let acquired = upstream.acquire(&mut turn, Duration::from_secs(5));
                // Some requests are cancelled while they wait.
                let Ok(Ok(mut lease)) = tokio::time::timeout(patience, acquired).await else { continue };
                {
                    // The lock makes both numbers belong to the same moment.
                    let _still = upstream.lock();
                    assert!(lease.server().inflight() <= 3 + lease.server().streaming());
                }
                let fate = random.u8(0..8);
                if fate > 0 {
                    lease.connected();
                }
                if fate > 1 {
                    lease.sent();
                }
                if fate > 2 {
                    tokio::task::yield_now().await;
                    lease.response_begun(
                        random
                            .choice([
                                ResponseOutcome::Success,
                                ResponseOutcome::Failure,
                                ResponseOutcome::Stream,
                            ])
                            .unwrap(),
                        None,
                    );
                }
                if fate == 3 {
                    lease.timed_out();
                }
                drop(lease);
                if random.u8(0..50) == 0 {
                    let server = &servers[random.usize(0..4)];
                    upstream.failed(server, "test");
                    upstream.recovered(server);
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(upstream.waiting(), 0);
    for server in servers {
        assert_eq!((server.inflight(), server.streaming(), server.streams()), (0, 0, 0));
        assert_eq!(server.health(), ServerHealth::Up);
    }
}
