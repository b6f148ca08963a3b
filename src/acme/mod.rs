//! Automatic certificates from a CA (ACME, RFC 8555).
//!
//! [`run`] lives on the control thread. When a certificate is due ([`schedule`]), it is [ordered](order) over [`http`];
//! the CA validates the names, and listeners respond to its [`Challenges`](crate::tls::Challenges). The certificate is written to the
//! [`store`], from where it is loaded like any other file that has changed. Until then a self-signed placeholder
//! is used, so that listeners never wait for a CA.

mod http;
mod job;
mod order;
mod schedule;
mod store;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    config::{Acme, Config},
    observe::Metrics,
    tls::Certificates,
};
use job::Job;

/// Interval at which the clock is checked: it may be set, and machines sleep.
const CHECK_CLOCK_EVERY: Duration = Duration::from_secs(600);

/// Orders and renews certificates for ever, one at a time.
pub(crate) async fn run(certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut applied = certificates.applied();
    let mut jobs: Vec<Job> = Vec::new();
    let mut ca = None;
    let mut is_new = true;
    loop {
        is_new |= applied.has_changed().unwrap_or(false);
        let config = applied.borrow_and_update().clone().filter(|_| std::mem::take(&mut is_new));
        if let Some(config) = config {
            jobs = plan(&config, jobs, SystemTime::now()).await;
            ca.clone_from(&config.acme);
        }
        let now = SystemTime::now();
        if let Some(ca) = &ca
            && let Some(job) = jobs.iter_mut().find(|job| job.next() <= now)
        {
            job.work(ca, &certificates, &metrics).await;
            continue;
        }
        let next = jobs.iter().map(Job::next).min();
        let pause = next.map_or(CHECK_CLOCK_EVERY, |next| {
            next.duration_since(now).unwrap_or_default().min(CHECK_CLOCK_EVERY)
        });
        tokio::select! {
            changed = applied.changed() => match changed {
                Ok(()) => is_new = true,
                Err(_) => return,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Creates a job for each site with an automatic certificate; jobs of a previous configuration keep their state.
async fn plan(config: &Config, mut before: Vec<Job>, now: SystemTime) -> Vec<Job> {
    let mut jobs = Vec::new();
    for site in &config.sites {
        let Some(tls) = &site.tls else { continue };
        let Some(acme) = &tls.acme else { continue };
        let known = before.iter().position(|job| job.is_for(&tls.cert, acme));
        let mut job = match known {
            Some(known) => before.swap_remove(known),
            None => Job::new(&site.name, &tls.cert, acme, now),
        };
        job.load_stored(now).await;
        jobs.push(job);
    }
    jobs
}

/// Creates the HTTP client for a CA.
async fn http(ca: &Acme) -> http::Http {
    let settings = crate::config::UpstreamTls { server_name: None, ca: ca.ca.clone(), verify: true };
    let connector = tokio::task::spawn_blocking(move || crate::tls::TlsClient::new(&settings)).await;
    http::Http::new(Arc::new(connector.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))))
}
