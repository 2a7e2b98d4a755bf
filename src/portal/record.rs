//! What a choice leaves on record: a change for each level that a visit names.

use super::{Pages, Told, Visit};
use crate::privacy::{Basis, Named, Subject};
use crate::store::recipients::{AccountKey, Recorded, Request};
use crate::store::{Change, Kind, Level, Moment, Receipt, RecordError, Source};

/// Records an opt-out for each level that is named, or for the browser where none is. Every level is tried, whatever
/// becomes of another. Gives the account's receipt before the profile's; an error if any could not be recorded.
pub(super) async fn record_out(portal: &Pages, visit: &Visit, time_us: i64) -> Result<Receipt, RecordError> {
    let Named { account, profile } = visit.named;
    let account = account.map(|subject| (Some(subject), Basis::Account));
    let profile = profile.map(|subject| (Some(subject), Basis::Profile));
    let browser = visit.named.is_nobody().then_some((None, Basis::Cookie));
    let mut first = Err(RecordError::Closed);
    for (number, level) in account.into_iter().chain(profile).chain(browser).enumerate() {
        let (subject, basis) = level;
        let recorded = match subject {
            Some(account) if basis == Basis::Account => account_out(portal, visit, account, time_us).await,
            _ => {
                let change = change(visit, Kind::OptOut, subject, Some(basis), time_us);
                record_change(portal, visit, change).await
            }
        };
        if number == 0 || first.is_ok() && recorded.is_err() {
            first = recorded;
        }
    }
    first
}

/// Records an account's opt-out. When it was asked for is kept until it is on record, for those who get data in
/// between, or whatever the pages do (11 CCR 7026(f)(2)). Whether that works changes nothing for the person.
async fn account_out(
    portal: &Pages,
    visit: &Visit,
    subject: Subject,
    time_us: i64,
) -> Result<Receipt, RecordError> {
    let recipients = portal.store.recipients();
    let keep = async |who: Option<AccountKey>| {
        let site = visit.site.name.clone();
        let request = Request { subject, site, requested_us: time_us, who };
        if let Err(error) = recipients.for_a_page(recipients.requested(vec![request])).await {
            tracing::error!(site = %visit.site.name, %error, "recipients may not be told of an opt-out");
        }
    };
    let change = change(visit, Kind::OptOut, Some(subject), Some(Basis::Account), time_us);
    let known = portal.store.knows(&change);
    if let (Told::Recipients(who), false) = (&visit.told, known) {
        keep(who.clone()).await;
    }
    let recorded = record_change(portal, visit, change).await;
    match &recorded {
        Ok(receipt) => {
            let (reference, effective_us) = (receipt.reference.clone(), receipt.time_us);
            let record = Recorded { subject, reference, effective_us };
            if let Err(error) = recipients.for_a_page(recipients.recorded(vec![record])).await {
                tracing::warn!(%error, "whose record a request has will be looked for again");
            }
        }
        // From now on others get what they should not.
        Err(_) if visit.told == Told::Nobody => keep(None).await,
        Err(_) => {}
    }
    recorded
}

/// Records an opt-in for the browser and each level that is named, unless somebody who is named opted out since it was
/// asked; where one cannot be recorded, nothing is to change on this browser. Gives the receipt of the last, which covers
/// the most.
pub(super) async fn record_in(
    portal: &Pages,
    visit: &Visit,
    asked: Moment,
    time_us: i64,
) -> Result<Receipt, RecordError> {
    let Named { account, profile } = visit.named;
    let change = |subject, basis| change(visit, Kind::OptIn, subject, basis, time_us);
    let mut levels = vec![Level { change: change(None, None), others: &[] }];
    if profile.is_some() {
        let change = change(profile, Some(Basis::Profile));
        levels.push(Level { change, others: &visit.aliases.profile });
    }
    if account.is_some() {
        levels.push(Level { change: change(account, None), others: &visit.aliases.account });
    }
    record_confirmed(portal, visit, asked, levels).await
}

/// Records that an account keeps a programme, unless somebody who is named opted out since it was asked.
pub(super) async fn record_programme(
    portal: &Pages,
    visit: &Visit,
    asked: Moment,
    time_us: i64,
) -> Result<Receipt, RecordError> {
    let change = change(visit, Kind::Programme, visit.named.account, Some(Basis::Account), time_us);
    let level = Level { change, others: &visit.aliases.account };
    record_confirmed(portal, visit, asked, vec![level]).await
}

async fn record_confirmed(
    portal: &Pages,
    visit: &Visit,
    asked: Moment,
    levels: Vec<Level<'_>>,
) -> Result<Receipt, RecordError> {
    let Named { account, profile } = &visit.named;
    let aliases = visit.aliases.account.iter().chain(&visit.aliases.profile);
    let named: Vec<&Subject> = account.iter().chain(profile).chain(aliases).collect();
    let recorded = portal.store.ease(asked, &named, levels, visit.crowding).await;
    match &recorded {
        Ok(_) | Err(RecordError::OptedOut) => {}
        Err(error) => tracing::warn!(site = %visit.site.name, %error, "a confirmed choice was not recorded"),
    }
    recorded
}

fn change(visit: &Visit, kind: Kind, subject: Option<Subject>, basis: Option<Basis>, time_us: i64) -> Change {
    Change {
        time_us,
        site: visit.site.name.clone(),
        kind,
        source: Source::Form,
        basis,
        policy: visit.policy_version.clone(),
        subject,
    }
}

async fn record_change(portal: &Pages, visit: &Visit, change: Change) -> Result<Receipt, RecordError> {
    let kind = change.kind;
    let recorded = portal.store.record_for_a_page(change, visit.crowding).await;
    if let Err(error) = &recorded {
        tracing::warn!(site = %visit.site.name, ?kind, %error, "a choice was not recorded");
    }
    recorded
}
