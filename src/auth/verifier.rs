//! Verification of passwords by one thread of low priority, so that hashing delays no other request, however many
//! passwords are tried.
//!
//! Verdicts are remembered for a while by a keyed hash of user, password and stored hash: a browser sends its password
//! with each request, and a bcrypt for each would take more time than everything else.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use moka::{Expiry, sync::Cache};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{Credentials, hash};
use crate::{bulkhead::lock, net::client_prefix};

/// Most passwords that wait for the thread.
const MOST_WAITING: usize = 64;

/// Most passwords of one client's network among them.
const MOST_OF_CLIENT: usize = 8;

/// Time for which a right password is remembered.
const RIGHT: Duration = Duration::from_secs(300);

/// Time for which a wrong password is remembered.
const WRONG: Duration = Duration::from_secs(10);

/// Most verdicts that are remembered.
const MOST_REMEMBERED: u64 = 10_000;

/// Priority of the thread: as low as a process of `nice -n 19`.
const NICE: i32 = 19;

/// Verdict on a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The password is right.
    Right,
    /// The user or the password is wrong.
    Wrong,
    /// Too many other passwords wait for verification.
    Busy,
}

/// Hash that stands for a user, a password and a stored hash.
type Key = [u8; 32];

/// Password to verify.
struct Job {
    key: Key,
    client: IpAddr,
    password: Vec<u8>,
    hash: String,
    /// Whether the user exists; else the time of a verification is spent, which a client could measure.
    is_user: bool,
}

/// The verifier of all passwords of the process.
pub(crate) struct Verifier {
    /// Random key of the hashes.
    secret: [u8; 32],
    verdicts: Cache<Key, bool>,
    waiting: Mutex<Waiting>,
    jobs: SyncSender<Job>,
}

/// What waits for the thread.
#[derive(Default)]
struct Waiting {
    /// Requests that wait for a verdict; the first of a key has a job.
    requests: HashMap<Key, Vec<oneshot::Sender<bool>>>,
    /// Number of jobs by network of the client.
    jobs: HashMap<IpAddr, usize>,
}

/// Lifetimes of verdicts.
struct Lifetime;

impl Expiry<Key, bool> for Lifetime {
    fn expire_after_create(&self, _: &Key, is_right: &bool, _: std::time::Instant) -> Option<Duration> {
        Some(if *is_right { RIGHT } else { WRONG })
    }
}

static VERIFIER: LazyLock<Arc<Verifier>> = LazyLock::new(Verifier::start);

impl Verifier {
    /// The verifier of the process.
    pub(crate) fn of_process() -> &'static Arc<Self> {
        &VERIFIER
    }

    fn start() -> Arc<Self> {
        let (jobs, taken) = sync_channel(MOST_WAITING);
        let mut secret = [0; 32];
        if rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty()).is_err() {
            fastrand::fill(&mut secret);
        }
        let verdicts = Cache::builder().max_capacity(MOST_REMEMBERED).expire_after(Lifetime).build();
        let verifier = Arc::new(Self { secret, verdicts, waiting: Mutex::default(), jobs });
        let of_thread = Arc::clone(&verifier);
        let started = thread::Builder::new().name("passwords".into()).spawn(move || of_thread.run(&taken));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for passwords: logins get 503");
        }
        verifier
    }

    /// Verifies the password of a request from `client` against the stored hash of its user. Where there is no such user,
    /// `hash` is `None` and the time is spent on `other`, the hash of anybody.
    pub(crate) async fn verify(
        &self,
        credentials: &Credentials,
        hash: Option<&str>,
        other: &str,
        client: IpAddr,
    ) -> Verdict {
        let is_user = hash.is_some();
        let hash = hash.unwrap_or(other);
        let key = self.key(credentials, hash, is_user);
        if let Some(is_right) = self.verdicts.get(&key) {
            return verdict(is_right);
        }
        let told = self
            .enqueue(key, client_prefix(client), || (credentials.password.clone(), hash.to_owned(), is_user));
        match told {
            Some(told) => told.await.map_or(Verdict::Busy, verdict),
            None => Verdict::Busy,
        }
    }

    /// Waits for the verdict of a key, for which a job is made where there is none; `None` where there is no room for it.
    fn enqueue(
        &self,
        key: Key,
        client: IpAddr,
        job: impl FnOnce() -> (Vec<u8>, String, bool),
    ) -> Option<oneshot::Receiver<bool>> {
        let (told, verdict) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if let Some(others) = waiting.requests.get_mut(&key) {
            others.push(told);
            return Some(verdict);
        }
        let of_client = waiting.jobs.get(&client).copied().unwrap_or_default();
        if of_client >= MOST_OF_CLIENT {
            return None;
        }
        let (password, hash, is_user) = job();
        self.jobs.try_send(Job { key, client, password, hash, is_user }).ok()?;
        waiting.jobs.insert(client, of_client + 1);
        waiting.requests.insert(key, vec![told]);
        Some(verdict)
    }

    fn key(&self, credentials: &Credentials, hash: &str, is_user: bool) -> Key {
        let mut hasher = Sha256::new();
        hasher.update(self.secret);
        for part in
            [credentials.user.as_bytes(), &credentials.password, hash.as_bytes(), &[u8::from(is_user)]]
        {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// Verifies one password after the other.
    fn run(&self, jobs: &Receiver<Job>) {
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        for job in jobs {
            let is_right = self
                .verdicts
                .get(&job.key)
                .unwrap_or_else(|| hash::verify(&job.password, &job.hash) && job.is_user);
            self.verdicts.insert(job.key, is_right);
            let requests = lock(&self.waiting).done(&job);
            for told in requests {
                // The request may be gone.
                let _ = told.send(is_right);
            }
        }
    }
}

impl Waiting {
    /// Takes the requests of a job that is done.
    fn done(&mut self, job: &Job) -> Vec<oneshot::Sender<bool>> {
        match self.jobs.get_mut(&job.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.jobs.remove(&job.client)),
        }
        self.requests.remove(&job.key).unwrap_or_default()
    }
}

fn verdict(is_right: bool) -> Verdict {
    if is_right { Verdict::Right } else { Verdict::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(password: &str) -> Credentials {
        Credentials { user: "anna".into(), password: password.into() }
    }

    #[tokio::test]
    async fn one_password_of_many_requests_is_verified_once() {
        let verifier = Verifier::start();
        let hash = bcrypt::hash("secret", 8).unwrap();
        let right = credentials("secret");
        let client = IpAddr::from([192, 0, 2, 1]);
        let all = (0..200).map(|_| verifier.verify(&right, Some(&hash), "", client));
        let verdicts = futures_util::future::join_all(all).await;
        assert!(
            verdicts.iter().all(|verdict| *verdict == Verdict::Right),
            "more would not fit into the queue"
        );
        assert_eq!(verifier.verify(&credentials("wrong"), Some(&hash), "", client).await, Verdict::Wrong);
        assert_eq!(
            verifier.verify(&right, None, &hash, client).await,
            Verdict::Wrong,
            "there is no such user"
        );
    }

    #[tokio::test]
    async fn who_tries_many_passwords_keeps_nobody_else_out() {
        let verifier = Verifier::start();
        let hash = bcrypt::hash("secret", 9).unwrap();
        let tried: Vec<_> = (0..100).map(|number| credentials(&number.to_string())).collect();
        let attacker = IpAddr::from([192, 0, 2, 1]);
        let attack = tried.iter().map(|wrong| verifier.verify(wrong, Some(&hash), "", attacker));
        let attack = futures_util::future::join_all(attack);
        let right = credentials("secret");
        let login = verifier.verify(&right, Some(&hash), "", IpAddr::from([198, 51, 100, 1]));
        let (attacked, login) = tokio::join!(attack, login);
        assert_eq!(login, Verdict::Right);
        assert!(attacked.contains(&Verdict::Busy) && !attacked.contains(&Verdict::Right));
    }
}
