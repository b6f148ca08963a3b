//! The certificate of one site: when it is ordered, and what has come of that.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use instant_acme::{CertificateIdentifier, Error};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    order::{self, Asking, ChallengeKind, OrderFailure},
    schedule::{self, RenewalReason},
    store::{self, Failed},
};
use crate::{
    config::{Acme, AcmeSite, Challenge},
    observe::Metrics,
    tls::Certificates,
};

/// No order takes longer.
const LONGEST: Duration = Duration::from_secs(600);

/// A reload or a restart tries again what has failed, if that is so long ago.
const AGAIN: Duration = Duration::from_secs(900);

/// How soon, and then how often, a CA is asked when it wants a certificate renewed (RFC 9773).
const ASK_SOON: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// The certificate of one site.
pub(super) struct Job {
    /// The name of the site.
    label: String,
    file: PathBuf,
    site: AcmeSite,
    /// When it is ordered.
    due: SystemTime,
    /// When the CA is asked whether that is soon enough; `None` when it does not say.
    ask: Option<SystemTime>,
    /// The one that is there.
    stored: Option<Good>,
    /// Orders in a row that came to nothing.
    failures: u32,
    /// What has convinced the CA the last time.
    way: Option<Challenge>,
}

/// A certificate that is there, for all names.
struct Good {
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
            ask: None,
            stored: None,
            failures: 0,
            way: None,
        }
    }

    /// Whether it is about this certificate.
    pub(super) fn is_for(&self, file: &Path, site: &AcmeSite) -> bool {
        self.file == file && self.site == *site
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> SystemTime {
        self.ask.map_or(self.due, |ask| ask.min(self.due))
    }

    /// Looks at what is in the store after a start or a reload.
    pub(super) async fn look(&mut self, now: SystemTime) {
        self.take_stored().await;
        let due = self.stored.as_ref().map(|good| schedule::renewal(good.begin, good.end, fastrand::f64()));
        let file = self.file.clone();
        let failed = spawn_blocking(move || Failed::read(&file)).await.ok().flatten();
        self.failures = if failed.is_some() { self.failures.max(1) } else { 0 };
        let again = failed.map_or(now, |failed| {
            let told = failed.not_before.map_or(SystemTime::UNIX_EPOCH, since_1970);
            // A clock that was wrong must not keep us waiting for years.
            told.max(since_1970(failed.at) + AGAIN).min(now + schedule::LONGEST)
        });
        self.due = due.unwrap_or(now).max(again);
        self.ask = self.stored.is_some().then(|| now + ASK_SOON);
    }

    async fn take_stored(&mut self) {
        let (file, names) = (self.file.clone(), self.site.names.clone());
        let found = spawn_blocking(move || store::stored(&file, &names)).await.ok().flatten();
        self.stored = found.filter(|found| found.covers).map(|found| Good {
            begin: found.begin,
            end: found.end,
            id: CertificateIdentifier::try_from(&found.leaf).ok().map(CertificateIdentifier::into_owned),
        });
    }

    /// Does what is due.
    pub(super) async fn work(&mut self, ca: &Acme, certificates: &Certificates, metrics: &Metrics) {
        let http = super::http(ca).await;
        let replaces = self.stored.as_ref().and_then(|good| good.id.clone());
        let challenges = certificates.challenges();
        let (due, site) = (self.due, self.site.clone());
        let asking = Asking { ca, site: &site, http: &http, challenges, replaces };
        if SystemTime::now() < due {
            return self.ask(&asking).await;
        }
        let mut ways = ca.challenges.clone();
        // What has worked goes first.
        ways.sort_by_key(|way| Some(*way) != self.way);
        let ordered = timeout(LONGEST, self.order(&asking, &ways))
            .await
            .unwrap_or_else(|_| Err(OrderFailure::refused("it has not finished the order")));
        metrics.acme_ordered(&self.label, ordered.is_ok());
        match ordered {
            Ok(()) => self.succeeded(certificates).await,
            Err(failure) => self.failed(&failure, http.not_before(), ca).await,
        }
    }

    async fn order(&mut self, asking: &Asking<'_>, ways: &[Challenge]) -> Result<(), OrderFailure> {
        tracing::info!(site = self.label, names = self.site.names.join(" "), "a certificate is ordered");
        let (pem, way) = order::certificate(asking, ways).await?;
        // Never ordered again and again because it cannot be kept.
        let kept = order::save(self.file.clone(), pem).await;
        kept.map_err(|failure| OrderFailure { kind: ChallengeKind::Refused, ..failure })?;
        self.way = Some(way);
        Ok(())
    }

    async fn succeeded(&mut self, certificates: &Certificates) {
        let now = SystemTime::now();
        self.failures = 0;
        let file = self.file.clone();
        let _ = spawn_blocking(move || Failed::forget(&file)).await;
        self.take_stored().await;
        certificates.refresh().await;
        let Some(Good { begin, end, .. }) = self.stored else {
            self.failures = 1;
            self.due = now + schedule::pause(RenewalReason::Refused, 1, fastrand::f64());
            tracing::error!(
                site = self.label,
                "the CA has given a certificate that cannot be used, or is not for all names"
            );
            return;
        };
        self.due = schedule::next_renewal(begin, end, now, fastrand::f64());
        self.ask = Some(now + ASK_AGAIN);
        tracing::info!(
            site = self.label,
            until = %humantime::format_rfc3339_seconds(end),
            renewal = %humantime::format_rfc3339_seconds(self.due),
            "there is a new certificate"
        );
    }

    async fn failed(&mut self, failure: &OrderFailure, told: Option<SystemTime>, ca: &Acme) {
        let now = SystemTime::now();
        self.failures += 1;
        let why = match failure.kind {
            ChallengeKind::Unreachable | ChallengeKind::Store => RenewalReason::Unreachable,
            // A CA that says when to come again knows better than we do, but is never asked all the time.
            ChallengeKind::Refused if told.is_some() => RenewalReason::Unreachable,
            ChallengeKind::Unverified | ChallengeKind::Refused => RenewalReason::Refused,
        };
        self.due = now + schedule::pause(why, self.failures, fastrand::f64());
        self.due = told.map_or(self.due, |told| told.max(self.due)).min(now + schedule::LONGEST);
        let directory = &ca.directory;
        let (what, mend) = match failure.kind {
            ChallengeKind::Unverified => (
                "does not find this machine by the names of the site".to_owned(),
                "see that each name leads here, and that port 80 (http-01) or 443 (tls-alpn-01) is reached from outside",
            ),
            ChallengeKind::Unreachable => (
                format!("at {directory} could not be asked"),
                "see that this machine can connect to it, and that `ca` of `[acme]` vouches for it",
            ),
            ChallengeKind::Store => (
                "was not asked".to_owned(),
                "see that the store of `[acme]` can be written, and `eab` be read",
            ),
            ChallengeKind::Refused => (
                "has refused".to_owned(),
                "see what it says, and `directory` and `acme` in the configuration",
            ),
        };
        if matches!(failure.kind, ChallengeKind::Unverified | ChallengeKind::Refused) {
            let failed = Failed { at: seconds(now), not_before: told.map(seconds) };
            let file = self.file.clone();
            let written = spawn_blocking(move || failed.write(&file)).await.map_err(std::io::Error::other);
            if let Err(error) = written.flatten() {
                tracing::warn!(site = self.label, %error, "a restart will not know of this");
            }
        }
        tracing::error!(
            site = self.label,
            next = %humantime::format_rfc3339_seconds(self.due),
            "no certificate: the CA {what}: {}; {mend}; a reload tries again after a quarter of an hour",
            failure.reason
        );
    }

    /// Asks the CA when it wants the certificate renewed (RFC 9773).
    async fn ask(&mut self, asking: &Asking<'_>) {
        let now = SystemTime::now();
        self.ask = Some(now + ASK_AGAIN);
        let Some(Good { begin, end, id: Some(id) }) = &self.stored else {
            self.ask = None;
            return;
        };
        if self.failures > 0 {
            // It is to be renewed, and has its own time.
            return;
        }
        let told = async {
            let account =
                order::account(asking, false).await.map_err(|failure| Error::Other(failure.reason.into()))?;
            account.renewal_info(id).await
        };
        match told.await {
            Err(Error::Unsupported(_)) => self.ask = None,
            Err(error) => tracing::debug!(site = self.label, %error, "the CA does not say when to renew"),
            Ok((info, again)) => {
                self.ask = Some(now + again.clamp(Duration::from_secs(60), ASK_AGAIN * 4));
                let time = |stamp: i64| since_1970(u64::try_from(stamp).unwrap_or_default());
                let window = &info.suggested_window;
                let window = (time(window.start.unix_timestamp()), time(window.end.unix_timestamp()));
                self.due = schedule::suggested(window, (*begin, *end), fastrand::f64()).max(now);
                if let Some(why) = info.explanation_url.filter(|_| self.due < now + ASK_AGAIN) {
                    tracing::warn!(site = self.label, why, "the CA wants the certificate renewed");
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
