//! One order: from the account to the certificate.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use tokio::task::spawn_blocking;

use super::{http::Http, store};
use crate::{
    config::{Acme, AcmeSite, Challenge, Eab},
    tls::{Challenges, Showing},
};

/// How often and how long a CA is asked what has become of an order.
const ASKING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(120));

/// What an account is unknown by at a CA that has forgotten it (RFC 8555 §6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// What it says when it does not know its own numbers any more, three times in a row.
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// What it says when too much is ordered.
const TOO_MANY: &str = "urn:ietf:params:acme:error:rateLimited";

/// Why there is no certificate.
#[derive(Debug)]
pub(super) struct OrderFailure {
    pub(super) kind: ChallengeKind,
    /// In words.
    pub(super) reason: String,
}

/// Where it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChallengeKind {
    /// The CA was not reached, or nothing that it would understand has come back.
    Unreachable,
    /// The store cannot be written; nothing was ordered yet.
    Store,
    /// The CA was shown something and did not find it; another challenge may do.
    Unverified,
    /// The CA has said no, or its work came to nothing.
    Refused,
}

/// Whom is asked, for whom.
pub(super) struct Asking<'a> {
    pub(super) ca: &'a Acme,
    pub(super) site: &'a AcmeSite,
    pub(super) http: &'a Http,
    pub(super) challenges: &'a Challenges,
    /// The certificate that the new one stands in for (RFC 9773 §5).
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
}

/// Orders a certificate, and gives its key, itself and those above it in PEM; also what has convinced the CA.
///
/// # Errors
///
/// See [`OrderFailure`].
pub(super) async fn certificate(
    asking: &Asking<'_>,
    ways: &[Challenge],
) -> Result<(String, Challenge), OrderFailure> {
    let mut unverified: Vec<String> = Vec::new();
    let folder = asking.ca.folder();
    let writable = spawn_blocking(move || store::prepare(&folder)).await.map_err(std::io::Error::other);
    writable.flatten().map_err(|error| OrderFailure::store(&asking.ca.folder(), &error))?;
    let mut account = account(asking, false).await?;
    for way in ways {
        let ordered = match order(asking, &account).await {
            Err(error) if is(&error, NO_ACCOUNT) => {
                account = self::account(asking, true).await?;
                order(asking, &account).await
            }
            ordered => ordered,
        };
        match finish(asking, ordered.map_err(OrderFailure::from)?, *way).await {
            Ok(pem) => return Ok((pem, *way)),
            Err(failure) if failure.kind == ChallengeKind::Unverified => unverified.push(failure.reason),
            Err(failure) => return Err(failure),
        }
    }
    Err(OrderFailure::unverified(unverified.join("; ")))
}

/// The account of the store; a `new` one when there is none, or the CA does not know it any more.
pub(super) async fn account(asking: &Asking<'_>, new: bool) -> Result<Account, OrderFailure> {
    let path = account_file(asking);
    let builder = Account::builder_with_http(Box::new(asking.http.clone()));
    let file = path.clone();
    let stored = spawn_blocking(move || store::read(&file)).await.map_err(std::io::Error::other);
    let stored = stored.flatten().map_err(|error| OrderFailure::store(&path, &error))?;
    if let Some(text) = stored.filter(|_| !new) {
        match serde_json::from_str::<AccountCredentials>(&text) {
            Ok(credentials) => return Ok(builder.from_credentials(credentials).await?),
            Err(error) => tracing::warn!("{}: {error}; a new account is made", path.display()),
        }
    }
    let contact = format!("mailto:{}", asking.site.contact);
    let who = NewAccount { contact: &[&contact], terms_of_service_agreed: true, only_return_existing: false };
    let known = match asking.ca.eab.clone() {
        None => None,
        Some(Eab { id, key: file }) => {
            let path = file.clone();
            let key = spawn_blocking(move || store::eab(&file)).await.map_err(std::io::Error::other);
            let key = key.flatten().map_err(|error| OrderFailure::store(&path, &error))?;
            Some(ExternalAccountKey::new(id, &key))
        }
    };
    let directory = asking.ca.directory.clone();
    let (account, credentials) = builder.create(&who, directory, known.as_ref()).await?;
    let text =
        serde_json::to_string(&credentials).map_err(|error| OrderFailure::store(&path, &error.into()))?;
    save(path, text).await?;
    Ok(account)
}

fn account_file(asking: &Asking<'_>) -> PathBuf {
    asking.ca.folder().join(format!("account-{}.json", asking.site.contact))
}

/// Writes into the store.
pub(super) async fn save(path: PathBuf, text: String) -> Result<(), OrderFailure> {
    let file = path.clone();
    let written = spawn_blocking(move || store::write(&file, &text)).await.map_err(std::io::Error::other);
    written.flatten().map_err(|error| OrderFailure::store(&path, &error))
}

async fn order(asking: &Asking<'_>, account: &Account) -> Result<Order, Error> {
    let names: Vec<_> = asking.site.names.iter().cloned().map(Identifier::Dns).collect();
    let order = NewOrder::new(&names);
    if let Some(replaced) = asking.replaces.clone() {
        match account.new_order(&order.replaces(replaced)).await {
            Err(error) if is(&error, NO_ACCOUNT) || is(&error, TOO_MANY) => return Err(error),
            // Not every CA takes that, nor twice for the same one.
            Err(error) => tracing::debug!(%error, "ordered as a first one"),
            ordered => return ordered,
        }
    }
    account.new_order(&NewOrder::new(&names)).await
}

/// Shows the CA what it wants to see, and takes the certificate.
async fn finish(asking: &Asking<'_>, mut order: Order, way: Challenge) -> Result<String, OrderFailure> {
    let kind = match way {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let showing = show(asking, &mut order, &kind).await?;
    if !showing.is_empty() || order.state().status == OrderStatus::Pending {
        match order.poll_ready(&ASKING).await {
            Ok(OrderStatus::Ready) => {}
            Err(error) if is(&error, BAD_NONCE) => return Err(error.into()),
            Ok(_) | Err(Error::Api(_)) => {
                return Err(OrderFailure::unverified(found(&mut order, &kind).await));
            }
            Err(error) => return Err(OrderFailure::unfinished(error)),
        }
    }
    drop(showing);
    let key = order.finalize().await.map_err(OrderFailure::unfinished)?;
    let chain = order.poll_certificate(&ASKING).await.map_err(OrderFailure::unfinished)?;
    Ok(key + &chain)
}

/// Shows everything that is wanted, and tells the CA to look.
async fn show<'a>(
    asking: &Asking<'a>,
    order: &mut Order,
    kind: &ChallengeType,
) -> Result<Vec<Showing<'a>>, OrderFailure> {
    let mut showing = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            other => {
                return Err(OrderFailure::unverified(format!("the CA has made it {other:?} before looking")));
            }
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(OrderFailure::unverified(format!("{name}: the CA does not look by {}", word(kind))));
        };
        let key = challenge.key_authorization();
        showing.push(match kind {
            ChallengeType::TlsAlpn01 => {
                asking.challenges.show_name(&name, &key).map_err(OrderFailure::refused)?
            }
            _ => asking.challenges.show_token(&challenge.token, &key),
        });
        match challenge.set_ready().await {
            Err(Error::Api(problem)) if problem.r#type.as_deref() != Some(BAD_NONCE) => {
                let detail = problem.detail.unwrap_or_default();
                return Err(OrderFailure::unverified(format!("{name} by {}: {detail}", word(kind))));
            }
            told => told?,
        }
    }
    Ok(showing)
}

/// What the CA has found in place of what it should.
async fn found(order: &mut Order, kind: &ChallengeType) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let asked = state.challenges.iter().find(|challenge| challenge.r#type == *kind);
        if let Some(problem) = asked.and_then(|challenge| challenge.error.as_ref()) {
            let detail = problem.detail.as_deref().or(problem.r#type.as_deref()).unwrap_or_default();
            reasons.push(format!("{name} by {}: {detail}", word(kind)));
        }
    }
    match reasons.is_empty() {
        true => format!("it does not say why, by {}", word(kind)),
        false => reasons.join("; "),
    }
}

fn word(kind: &ChallengeType) -> &str {
    match kind {
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        _ => "http-01",
    }
}

fn is(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(kind))
}

impl OrderFailure {
    fn store(path: &Path, error: &std::io::Error) -> Self {
        Self { kind: ChallengeKind::Store, reason: format!("{}: {error}", path.display()) }
    }

    fn unverified(reason: String) -> Self {
        Self { kind: ChallengeKind::Unverified, reason }
    }

    /// Of an order that the CA has begun to work on: it is not to do so again and again.
    fn unfinished(error: Error) -> Self {
        let kind = if is(&error, BAD_NONCE) { ChallengeKind::Unreachable } else { ChallengeKind::Refused };
        Self { kind, ..error.into() }
    }

    pub(super) fn refused(reason: impl std::fmt::Display) -> Self {
        Self { kind: ChallengeKind::Refused, reason: reason.to_string() }
    }
}

impl From<Error> for OrderFailure {
    fn from(error: Error) -> Self {
        let is_refusal = matches!(error, Error::Api(_)) && !is(&error, BAD_NONCE);
        let kind = if is_refusal { ChallengeKind::Refused } else { ChallengeKind::Unreachable };
        Self { kind, reason: error.to_string() }
    }
}
