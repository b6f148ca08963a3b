//! An order: from the account to the certificate.

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
    tls::{ChallengeGuard, Challenges},
};

/// Polling of an order's state at the CA.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(120));

/// Error type of an account that the CA does not have any more (RFC 8555 §6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Error type of an invalid nonce; reported if it occurs three times in a row.
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// Error type of an exceeded rate limit.
const TOO_MANY: &str = "urn:ietf:params:acme:error:rateLimited";

/// Reason why an order failed.
#[derive(Debug)]
pub(super) struct OrderFailure {
    pub(super) kind: ChallengeKind,
    /// Reason, in words.
    pub(super) reason: String,
}

/// Stage at which an order failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChallengeKind {
    /// The CA was unreachable, or did not send a valid response.
    Unreachable,
    /// The store cannot be written; nothing was ordered yet.
    Store,
    /// The CA could not verify a challenge; another type of challenge may succeed.
    Unverified,
    /// The CA refused the order, or failed to complete it.
    Refused,
}

/// Context of an order: the CA and the site.
pub(super) struct OrderContext<'a> {
    pub(super) ca: &'a Acme,
    pub(super) site: &'a AcmeSite,
    pub(super) http: &'a Http,
    pub(super) challenges: &'a Challenges,
    /// Certificate that the new one replaces (RFC 9773 §5).
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
}

/// Orders a certificate. Returns its key and its chain in PEM, and the type of challenge that succeeded.
///
/// # Errors
///
/// See [`OrderFailure`].
pub(super) async fn certificate(
    context: &OrderContext<'_>,
    challenges: &[Challenge],
) -> Result<(String, Challenge), OrderFailure> {
    let mut unverified: Vec<String> = Vec::new();
    let folder = context.ca.folder();
    let writable = spawn_blocking(move || store::prepare(&folder)).await.map_err(std::io::Error::other);
    writable.flatten().map_err(|error| OrderFailure::store(&context.ca.folder(), &error))?;
    let mut account = account(context, false).await?;
    for challenge in challenges {
        let ordered = match order(context, &account).await {
            Err(error) if is_problem(&error, NO_ACCOUNT) => {
                account = self::account(context, true).await?;
                order(context, &account).await
            }
            ordered => ordered,
        };
        match finish(context, ordered.map_err(OrderFailure::from)?, *challenge).await {
            Ok(pem) => return Ok((pem, *challenge)),
            Err(failure) if failure.kind == ChallengeKind::Unverified => unverified.push(failure.reason),
            Err(failure) => return Err(failure),
        }
    }
    Err(OrderFailure::unverified(unverified.join("; ")))
}

/// Loads the account from the store. Registers a `new` one if there is none, or if the CA does not have it any more.
pub(super) async fn account(context: &OrderContext<'_>, new: bool) -> Result<Account, OrderFailure> {
    let path = account_file(context);
    let builder = Account::builder_with_http(Box::new(context.http.clone()));
    let file = path.clone();
    let stored = spawn_blocking(move || store::read(&file)).await.map_err(std::io::Error::other);
    let stored = stored.flatten().map_err(|error| OrderFailure::store(&path, &error))?;
    if let Some(text) = stored.filter(|_| !new) {
        match serde_json::from_str::<AccountCredentials>(&text) {
            Ok(credentials) => return Ok(builder.from_credentials(credentials).await?),
            Err(error) => tracing::warn!("{}: {error}; registering a new account", path.display()),
        }
    }
    let contact = format!("mailto:{}", context.site.contact);
    let new_account =
        NewAccount { contact: &[&contact], terms_of_service_agreed: true, only_return_existing: false };
    let eab = match context.ca.eab.clone() {
        None => None,
        Some(Eab { id, key: file }) => {
            let path = file.clone();
            let key = spawn_blocking(move || store::eab(&file)).await.map_err(std::io::Error::other);
            let key = key.flatten().map_err(|error| OrderFailure::store(&path, &error))?;
            Some(ExternalAccountKey::new(id, &key))
        }
    };
    let directory = context.ca.directory.clone();
    let (account, credentials) = builder.create(&new_account, directory, eab.as_ref()).await?;
    let text =
        serde_json::to_string(&credentials).map_err(|error| OrderFailure::store(&path, &error.into()))?;
    save(path, text).await?;
    Ok(account)
}

fn account_file(context: &OrderContext<'_>) -> PathBuf {
    context.ca.folder().join(format!("account-{}.json", context.site.contact))
}

/// Writes a file of the store.
pub(super) async fn save(path: PathBuf, text: String) -> Result<(), OrderFailure> {
    let file = path.clone();
    let written = spawn_blocking(move || store::write(&file, &text)).await.map_err(std::io::Error::other);
    written.flatten().map_err(|error| OrderFailure::store(&path, &error))
}

async fn order(context: &OrderContext<'_>, account: &Account) -> Result<Order, Error> {
    let names: Vec<_> = context.site.names.iter().cloned().map(Identifier::Dns).collect();
    let order = NewOrder::new(&names);
    if let Some(replaced) = context.replaces.clone() {
        match account.new_order(&order.replaces(replaced)).await {
            Err(error) if is_problem(&error, NO_ACCOUNT) || is_problem(&error, TOO_MANY) => {
                return Err(error);
            }
            // Not every CA accepts `replaces`, nor twice for the same certificate.
            Err(error) => tracing::debug!(%error, "the CA does not accept `replaces`: ordering without it"),
            ordered => return ordered,
        }
    }
    account.new_order(&NewOrder::new(&names)).await
}

/// Responds to the challenges and downloads the certificate.
async fn finish(
    context: &OrderContext<'_>,
    mut order: Order,
    challenge: Challenge,
) -> Result<String, OrderFailure> {
    let kind = match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let published = publish_challenges(context, &mut order, &kind).await?;
    if !published.is_empty() || order.state().status == OrderStatus::Pending {
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Ready) => {}
            Err(error) if is_problem(&error, BAD_NONCE) => return Err(error.into()),
            Ok(_) | Err(Error::Api(_)) => {
                return Err(OrderFailure::unverified(validation_error(&mut order, &kind).await));
            }
            Err(error) => return Err(OrderFailure::unfinished(error)),
        }
    }
    drop(published);
    let key = order.finalize().await.map_err(OrderFailure::unfinished)?;
    let chain = order.poll_certificate(&POLLING).await.map_err(OrderFailure::unfinished)?;
    Ok(key + &chain)
}

/// Publishes the challenges and asks the CA to verify them.
async fn publish_challenges<'a>(
    context: &OrderContext<'a>,
    order: &mut Order,
    kind: &ChallengeType,
) -> Result<Vec<ChallengeGuard<'a>>, OrderFailure> {
    let mut published = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            other => {
                return Err(OrderFailure::unverified(format!(
                    "the CA has set an authorization to {other:?} before validation"
                )));
            }
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(OrderFailure::unverified(format!(
                "{name}: the CA does not offer {}",
                challenge_name(kind)
            )));
        };
        let key = challenge.key_authorization();
        published.push(match kind {
            ChallengeType::TlsAlpn01 => {
                context.challenges.add_name(&name, &key).map_err(OrderFailure::refused)?
            }
            _ => context.challenges.add_token(&challenge.token, &key),
        });
        match challenge.set_ready().await {
            Err(Error::Api(problem)) if problem.r#type.as_deref() != Some(BAD_NONCE) => {
                let detail = problem.detail.unwrap_or_default();
                return Err(OrderFailure::unverified(format!(
                    "{name} by {}: {detail}",
                    challenge_name(kind)
                )));
            }
            result => {
                result?;
            }
        }
    }
    Ok(published)
}

/// Error that the CA found when it validated a challenge.
async fn validation_error(order: &mut Order, kind: &ChallengeType) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let failed = state.challenges.iter().find(|challenge| challenge.r#type == *kind);
        if let Some(problem) = failed.and_then(|challenge| challenge.error.as_ref()) {
            let detail = problem.detail.as_deref().or(problem.r#type.as_deref()).unwrap_or_default();
            reasons.push(format!("{name} by {}: {detail}", challenge_name(kind)));
        }
    }
    match reasons.is_empty() {
        true => format!("no reason given by the CA ({})", challenge_name(kind)),
        false => reasons.join("; "),
    }
}

fn challenge_name(kind: &ChallengeType) -> &str {
    match kind {
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        _ => "http-01",
    }
}

fn is_problem(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(kind))
}

impl OrderFailure {
    fn store(path: &Path, error: &std::io::Error) -> Self {
        Self { kind: ChallengeKind::Store, reason: format!("{}: {error}", path.display()) }
    }

    fn unverified(reason: String) -> Self {
        Self { kind: ChallengeKind::Unverified, reason }
    }

    /// Failure of an order that the CA has begun to process: it must not be retried too often.
    fn unfinished(error: Error) -> Self {
        let kind =
            if is_problem(&error, BAD_NONCE) { ChallengeKind::Unreachable } else { ChallengeKind::Refused };
        Self { kind, ..error.into() }
    }

    pub(super) fn refused(reason: impl std::fmt::Display) -> Self {
        Self { kind: ChallengeKind::Refused, reason: reason.to_string() }
    }
}

impl From<Error> for OrderFailure {
    fn from(error: Error) -> Self {
        let is_refusal = matches!(error, Error::Api(_)) && !is_problem(&error, BAD_NONCE);
        let kind = if is_refusal { ChallengeKind::Refused } else { ChallengeKind::Unreachable };
        Self { kind, reason: error.to_string() }
    }
}
