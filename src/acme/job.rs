//! Certificate of one site: schedule and results of its orders.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use instant_acme::{CertificateIdentifier, Error};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    order::{self, ChallengeKind, OrderContext, OrderFailure},
    schedule::{self, RenewalReason},
    store::{self, Failed},
};
use crate::{
    config::{Acme, AcmeSite, Challenge},
    observe::Metrics,
    tls::Certificates,
};

/// Timeout of an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);

/// Age from which a failed order is retried by a reload or restart.
const RETRY_AFTER: Duration = Duration::from_secs(900);

/// First delay and then interval of requests for the CA's renewal information (RFC 9773).
const INFO_DELAY: Duration = Duration::from_secs(5);
const INFO_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Certificate of one site.
pub(super) struct Job {
    /// Name of the site.
    label: String,
    file: PathBuf,
    site: AcmeSite,
    /// Time of the next order.
    due: SystemTime,
    /// Time of the next request for renewal information; `None` if the CA does not provide any.
    next_info: Option<SystemTime>,
    /// Stored certificate.
    stored: Option<ValidCertificate>,
    /// Consecutive failed orders.
    failures: u32,
    /// Challenge type of the last successful order.
    challenge: Option<Challenge>,
}

/// Stored certificate that covers all names.
struct ValidCertificate {
    begin: SystemTime,
    end: SystemTime,
    id: Option<CertificateIdentifier<'static>>,
}

impl Job {
    pub(super) fn new(label: &str, file: &Path, site: &AcmeSite, now: SystemTime) -> Self {
        Self {
            label: label.to_owned(),
            file: file.to_owned(),
            site: site.clone(),
            due: now,
            next_info: None,
            stored: None,
            failures: 0,
            challenge: None,
        }
    }

    /// Whether the job is for this certificate.
    pub(super) fn is_for(&self, file: &Path, site: &AcmeSite) -> bool {
        self.file == file && self.site == *site
    }

    /// Time of the next action.
    pub(super) fn next(&self) -> SystemTime {
        self.next_info.map_or(self.due, |next_info| next_info.min(self.due))
    }

    /// Reads the store after a start or reload.
    pub(super) async fn load_stored(&mut self, now: SystemTime) {
        self.take_stored().await;
        let due =
            self.stored.as_ref().map(|stored| schedule::renewal(stored.begin, stored.end, fastrand::f64()));
        let file = self.file.clone();
        let failed = spawn_blocking(move || Failed::read(&file)).await.ok().flatten();
        self.failures = if failed.is_some() { self.failures.max(1) } else { 0 };
        let again = failed.map_or(now, |failed| {
            let not_before = failed.not_before.map_or(SystemTime::UNIX_EPOCH, since_1970);
            // A clock that was wrong must not delay the order for years.
            not_before.max(since_1970(failed.at) + RETRY_AFTER).min(now + schedule::LONGEST)
        });
        self.due = due.unwrap_or(now).max(again);
        self.next_info = self.stored.is_some().then(|| now + INFO_DELAY);
    }

    async fn take_stored(&mut self) {
        let (file, names) = (self.file.clone(), self.site.names.clone());
        let found = spawn_blocking(move || store::stored(&file, &names)).await.ok().flatten();
        self.stored = found.filter(|found| found.covers).map(|found| ValidCertificate {
            begin: found.begin,
            end: found.end,
            id: CertificateIdentifier::try_from(&found.leaf).ok().map(CertificateIdentifier::into_owned),
        });
    }

    /// Performs the actions that are due.
    pub(super) async fn work(&mut self, ca: &Acme, certificates: &Certificates, metrics: &Metrics) {
        let http = super::http(ca).await;
        let replaces = self.stored.as_ref().and_then(|stored| stored.id.clone());
        let challenges = certificates.challenges();
        let (due, site) = (self.due, self.site.clone());
        let context = OrderContext { ca, site: &site, http: &http, challenges, replaces };
        if SystemTime::now() < due {
            return self.request_renewal_info(&context).await;
        }
        let mut challenges_to_try = ca.challenges.clone();
        // Try the challenge type that worked last time first.
        challenges_to_try.sort_by_key(|challenge| Some(*challenge) != self.challenge);
        let ordered = timeout(ORDER_TIMEOUT, self.order(&context, &challenges_to_try))
            .await
            .unwrap_or_else(|_| Err(OrderFailure::refused("the order timed out")));
        metrics.acme_ordered(&self.label, ordered.is_ok());
        match ordered {
            Ok(()) => self.succeeded(certificates).await,
            Err(failure) => self.failed(&failure, http.not_before(), ca).await,
        }
    }

    async fn order(
        &mut self,
        context: &OrderContext<'_>,
        challenges_to_try: &[Challenge],
    ) -> Result<(), OrderFailure> {
        tracing::info!(site = self.label, names = self.site.names.join(" "), "ordering a certificate");
        let (pem, challenge) = order::certificate(context, challenges_to_try).await?;
        // A failure to store the certificate must not cause it to be ordered again and again.
        let kept = order::save(self.file.clone(), pem).await;
        kept.map_err(|failure| OrderFailure { kind: ChallengeKind::Refused, ..failure })?;
        self.challenge = Some(challenge);
        Ok(())
    }

    async fn succeeded(&mut self, certificates: &Certificates) {
        let now = SystemTime::now();
        self.failures = 0;
        let file = self.file.clone();
        let _ = spawn_blocking(move || Failed::forget(&file)).await;
        self.take_stored().await;
        certificates.refresh().await;
        let Some(ValidCertificate { begin, end, .. }) = self.stored else {
            self.failures = 1;
            self.due = now + schedule::pause(RenewalReason::Refused, 1, fastrand::f64());
            tracing::error!(
                site = self.label,
                "the CA has issued a certificate that cannot be used or does not cover all names"
            );
            return;
        };
        self.due = schedule::next_renewal(begin, end, now, fastrand::f64());
        self.next_info = Some(now + INFO_INTERVAL);
        tracing::info!(
            site = self.label,
            until = %humantime::format_rfc3339_seconds(end),
            renewal = %humantime::format_rfc3339_seconds(self.due),
            "new certificate issued"
        );
    }

    async fn failed(&mut self, failure: &OrderFailure, retry_after: Option<SystemTime>, ca: &Acme) {
        let now = SystemTime::now();
        self.failures += 1;
        let why = match failure.kind {
            ChallengeKind::Unreachable | ChallengeKind::Store => RenewalReason::Unreachable,
            // Follow the CA's Retry-After, within bounds that prevent constant requests.
            ChallengeKind::Refused if retry_after.is_some() => RenewalReason::Unreachable,
            ChallengeKind::Unverified | ChallengeKind::Refused => RenewalReason::Refused,
        };
        self.due = now + schedule::pause(why, self.failures, fastrand::f64());
        self.due = retry_after
            .map_or(self.due, |retry_after| retry_after.max(self.due))
            .min(now + schedule::LONGEST);
        let directory = &ca.directory;
        let (what, remedy) = match failure.kind {
            ChallengeKind::Unverified => (
                "could not validate the names of the site".to_owned(),
                "check that DNS resolves each name to this machine, and that port 80 (http-01) or 443 (tls-alpn-01) \
                 is reachable from the internet",
            ),
            ChallengeKind::Unreachable => (
                format!("at {directory} is unreachable"),
                "check the network and firewall, and that the CA's server certificate is trusted (`ca` in `[acme]`)",
            ),
            ChallengeKind::Store => (
                "was not contacted".to_owned(),
                "check that the store of `[acme]` is writable and its `eab` key readable",
            ),
            ChallengeKind::Refused => (
                "refused it".to_owned(),
                "check its message, and `directory` and `acme` in the configuration",
            ),
        };
        if matches!(failure.kind, ChallengeKind::Unverified | ChallengeKind::Refused) {
            let failed = Failed { at: seconds(now), not_before: retry_after.map(seconds) };
            let file = self.file.clone();
            let written = spawn_blocking(move || failed.write(&file)).await.map_err(std::io::Error::other);
            if let Err(error) = written.flatten() {
                tracing::warn!(site = self.label, %error, "cannot record the failed order for a restart");
            }
        }
        tracing::error!(
            site = self.label,
            next = %humantime::format_rfc3339_seconds(self.due),
            "certificate order failed: the CA {what}: {}; {remedy}; a reload retries after 15 minutes at the earliest",
            failure.reason
        );
    }

    /// Requests the CA's renewal information (RFC 9773).
    async fn request_renewal_info(&mut self, context: &OrderContext<'_>) {
        let now = SystemTime::now();
        self.next_info = Some(now + INFO_INTERVAL);
        let Some(ValidCertificate { begin, end, id: Some(id) }) = &self.stored else {
            self.next_info = None;
            return;
        };
        if self.failures > 0 {
            // Renewal is due already, and follows its own schedule.
            return;
        }
        let renewal_info = async {
            let account = order::account(context, false)
                .await
                .map_err(|failure| Error::Other(failure.reason.into()))?;
            account.renewal_info(id).await
        };
        match renewal_info.await {
            Err(Error::Unsupported(_)) => self.next_info = None,
            Err(error) => {
                tracing::debug!(site = self.label, %error, "cannot get renewal information from the CA");
            }
            Ok((info, again)) => {
                self.next_info = Some(now + again.clamp(Duration::from_secs(60), INFO_INTERVAL * 4));
                let time = |stamp: i64| since_1970(u64::try_from(stamp).unwrap_or_default());
                let window = &info.suggested_window;
                let window = (time(window.start.unix_timestamp()), time(window.end.unix_timestamp()));
                self.due = schedule::suggested(window, (*begin, *end), fastrand::f64()).max(now);
                if let Some(why) = info.explanation_url.filter(|_| self.due < now + INFO_INTERVAL) {
                    tracing::warn!(site = self.label, why, "the CA asks to renew the certificate early");
                }
            }
        }
    }
}

fn since_1970(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
