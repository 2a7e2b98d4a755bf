//! One conversation with the authority: the account, an order from proof to certificate, and when to renew.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewAccount,
    NewOrder, OrderStatus, RetryPolicy,
};
use rustls::pki_types::CertificateDer;

use super::disk::AcmeFiles;
use super::validity::{Validity, chosen_second};
use crate::config::{Acme, Challenge};
use crate::edge::own::proofs::Proofs;

/// How long the authority may take to look at a proof, and again to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Shortest and longest time between two questions about renewal (RFC 9773, 4.3.2, names six hours).
const LOOKS: (i64, i64) = (3_600, 86_400);

/// The account at the authority; made and kept when there is none.
pub(super) async fn account(acme: &Acme, files: &AcmeFiles) -> anyhow::Result<Account> {
    let builder = match &acme.roots {
        Some(roots) => Account::builder_with_root(roots),
        None => Account::builder(),
    };
    let builder = builder.context("the authority's server cannot be verified")?;
    let unreachable = || format!("the authority at {} refuses, or cannot be reached", acme.directory);
    if let Some(credentials) = files.account()? {
        return builder.from_credentials(credentials).await.with_context(unreachable);
    }
    let contact: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let made = builder.create(&wanted, acme.directory.clone(), None).await;
    let (account, credentials) = made.with_context(unreachable)?;
    files.keep_account(&credentials)?;
    Ok(account)
}

/// A new key and certificate chain for a host, both as PEM.
pub(super) async fn order(
    account: &Account,
    host: &str,
    challenge: Challenge,
    replaces: Option<CertificateIdentifier<'_>>,
    proofs: &Arc<Proofs>,
) -> anyhow::Result<(String, String)> {
    let names = [Identifier::Dns(host.to_owned())];
    let mut wanted = NewOrder::new(&names);
    if let Some(before) = replaces {
        wanted = wanted.replaces(before);
    }
    let mut order = account.new_order(&wanted).await.context("the order was refused")?;
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.context("the authority does not say what to prove")?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => anyhow::bail!("the authority takes no proof any more: {other:?}"),
        }
        let kind = match challenge {
            Challenge::Http => ChallengeType::Http01,
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
        };
        let asked = authorization.challenge(kind);
        let mut asked = asked.with_context(|| format!("the authority does not offer {challenge:?}"))?;
        let text = asked.key_authorization();
        shown.push(match challenge {
            Challenge::Http => proofs.show_text(&asked.token, text.as_str()),
            Challenge::TlsAlpn => proofs.show_certificate(host, text.digest().as_ref())?,
        });
        asked.set_ready().await.context("the authority does not look at the proof")?;
    }
    let status = order.poll_ready(&PATIENCE).await.context("the proof was not accepted")?;
    ensure!(status == OrderStatus::Ready, "the proof was not accepted: {}", complaint(&mut order).await);
    drop(shown);
    let key = order.finalize().await.context("the authority does not sign")?;
    let chain = order.poll_certificate(&PATIENCE).await.context("the authority gives no certificate")?;
    Ok((key, chain))
}

/// Whether an order was refused for want of the account (RFC 8555, 6.7): the authority has lost or removed it.
pub(super) fn lacks_account(error: &anyhow::Error) -> bool {
    const TYPE: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
    let api = error.downcast_ref::<Error>();
    matches!(api, Some(Error::Api(problem)) if problem.r#type.as_deref() == Some(TYPE))
}

/// What the authority says of a proof it did not accept.
async fn complaint(order: &mut instant_acme::Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem.to_string();
        }
    }
    "the authority does not say why".to_owned()
}

/// When a certificate is to be renewed and when to ask again, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) at: i64,
    pub(super) ask_again: i64,
    /// The authority says when (RFC 9773), and wants to know which certificate a new one replaces.
    pub(super) informed: bool,
}

/// As the authority suggests, else at two thirds of the lifetime.
pub(super) async fn renewal(
    account: &Account,
    leaf: &CertificateDer<'_>,
    validity: Validity,
    now: i64,
) -> Renewal {
    let fallback = Renewal { at: validity.two_thirds(), ask_again: now + LOOKS.1, informed: false };
    let Ok(id) = CertificateIdentifier::try_from(leaf) else { return fallback };
    match account.renewal_info(&id).await {
        Ok((info, wait)) => {
            let window = info.suggested_window;
            let at = chosen_second(window.start.unix_timestamp(), window.end.unix_timestamp(), leaf);
            let wait = i64::try_from(wait.as_secs()).unwrap_or(LOOKS.1).clamp(LOOKS.0, LOOKS.1);
            Renewal { at, ask_again: now + wait, informed: true }
        }
        Err(Error::Unsupported(_)) => fallback,
        Err(error) => {
            tracing::debug!("the authority does not say when to renew: {error}");
            Renewal { ask_again: now + LOOKS.0, ..fallback }
        }
    }
}
