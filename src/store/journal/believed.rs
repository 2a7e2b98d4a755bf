//! What a node believes of a row in the database that nodes share, where more hands may write than in its own file.
//!
//! An opt-out is honoured on the row's own word: a made-up one harms nobody whose choices it is not. Anything else could
//! end an opt-out, so it is believed where something proves it that a hand in the database cannot make:
//!
//! ```text
//! seen = NODE:SEQ,NODE:SEQ,=MAC     MAC: HMAC-SHA-256 in hexadecimal, by a key of secret.key, over the node, the number,
//!                                   the kind, the way, the account's hash and what stands before it
//! ```
//!
//! It stays when the row is pruned. Earlier versions wrote none: their whole rows are held against their bytes, the
//! account's hash and the chain; what is pruned of them, and was more than an opt-out, is not known to be, and counts as
//! one.
//!
//! A whole opt-out has none: its bytes tell. When it is pruned nothing but the row says whose it was, so it gets one then,
//! by which a row that was given to another account is found out: who opted out would be honoured by no later node.

use data_encoding::HEXLOWER;

use super::chain::{Account, Fields, Head, Link};
use super::postgres::Shipped;
use crate::privacy::{Keys, Subject};
use crate::store::merge::Seen;
use crate::store::record::{Kind, Source};

/// Before the MAC. No node's name follows, so that programs which know no MAC pass it over.
const MARK: &str = ",=";

/// A row, as far as it tells of a choice.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Row<'r> {
    pub(in crate::store) node: &'r str,
    pub(in crate::store) seq: i64,
    pub(in crate::store) kind: &'r str,
    pub(in crate::store) signal: &'r str,
    pub(in crate::store) subject: Option<&'r [u8]>,
    pub(in crate::store) seen: Option<&'r str>,
    /// The rest is not asked for of an opt-out.
    pub(in crate::store) blinding: Option<&'r [u8]>,
    pub(in crate::store) canonical: Option<&'r [u8]>,
    pub(in crate::store) chain: Option<&'r [u8]>,
    /// The chain value of the row before.
    pub(in crate::store) before: Option<&'r [u8]>,
}

/// What is believed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Choice {
    pub(in crate::store) subject: Subject,
    pub(in crate::store) kind: Kind,
    pub(in crate::store) source: Source,
    /// What its node had heard of the others.
    pub(in crate::store) seen: Seen,
    /// It says more than is proven, and counts as an opt-out.
    pub(in crate::store) unproven: bool,
}

/// `None` for a row that names nobody, or is of a kind unknown here.
pub(in crate::store) fn believe(row: &Row<'_>, keys: &Keys) -> Option<Choice> {
    let subject = Subject::from_bytes(row.subject?.try_into().ok()?);
    let out = |source, unproven| {
        Some(Choice { subject, kind: Kind::OptOut, source, seen: Seen::default(), unproven })
    };
    let vouched = vouched((row.node, row.seq), (row.kind, row.signal), &subject, (row.seen, keys));
    if row.kind == Kind::OptOut.as_str() {
        // In which way it came is not worth a doubt; whose it was is.
        return out(Source::parse(row.signal).unwrap_or(Source::Carried), vouched == Some(false));
    }
    let seen = row.seen.map(|seen| seen.rsplit_once(MARK).map_or(seen, |(seen, _)| seen)).unwrap_or_default();
    let (kind, source) =
        match (vouched == Some(true), row.canonical.and_then(|bytes| proven(row, &subject, bytes))) {
            (true, _) => (Kind::parse(row.kind)?, Source::parse(row.signal)?),
            (false, Some(fields)) => (Kind::parse(fields.kind)?, Source::parse(fields.signal)?),
            (false, None) => return out(Source::Carried, true),
        };
    Some(Choice { subject, kind, source, seen: Seen::parse(seen), unproven: false })
}

/// Whether a row's MAC is that of what it says; `None`: it has none.
pub(in crate::store) fn vouched(
    (node, seq): (&str, i64),
    told: (&str, &str),
    subject: &Subject,
    (seen, keys): (Option<&str>, &Keys),
) -> Option<bool> {
    let (seen, mac) = seen?.rsplit_once(MARK)?;
    let mac: Option<[u8; 32]> = HEXLOWER.decode(mac.as_bytes()).ok().and_then(|mac| mac.try_into().ok());
    let is = |mac| keys.know_beside(&parts(node, &seq.to_be_bytes(), told, subject, seen), &mac);
    Some(mac.is_some_and(is))
}

/// What stands before a MAC.
pub(in crate::store) fn without_mac(seen: String) -> String {
    seen.rsplit_once(MARK).map_or(seen.clone(), |(seen, _)| seen.to_owned())
}

/// Whether a row has a MAC, of whatever.
pub(in crate::store) fn has_mac(seen: Option<&str>) -> bool {
    seen.is_some_and(|seen| seen.contains(MARK))
}

/// The fields of a whole row, where its bytes are of this account and follow the row before.
fn proven<'r>(row: &Row<'r>, subject: &Subject, canonical: &'r [u8]) -> Option<Fields<'r>> {
    let fields = Fields::decode(canonical)?;
    let account = fields.account(row.subject, row.blinding)?;
    let link = if row.seq == 1 { Link::default() } else { row.before?.try_into().ok()? };
    let next = Head { seq: row.seq - 1, link }.next(canonical);
    let fits = account == Account::Known(*subject)
        && (fields.seq, fields.node) == (row.seq, row.node)
        && row.chain == Some(&next.link[..]);
    fits.then_some(fields)
}

/// Vouches for a record of this node on its way to the database, unless it is an opt-out or names nobody.
pub(in crate::store) fn vouch(record: &mut Shipped, node: &str, keys: &Keys) {
    let Some(Ok(subject)) = record.subject.as_deref().map(<[u8; 16]>::try_from) else { return };
    if record.kind == Kind::OptOut.as_str() || record.kind.is_empty() {
        return;
    }
    let (subject, seen) = (Subject::from_bytes(subject), record.seen.take().unwrap_or_default());
    let told = (record.kind.as_str(), record.signal.as_str());
    record.seen = Some(with_mac((node, record.seq), told, &subject, (&seen, keys)));
}

/// What a record of this node has heard, as this node's file has it, with a MAC over it and what the record says.
pub(in crate::store) fn with_mac(
    (node, seq): (&str, i64),
    told: (&str, &str),
    subject: &Subject,
    (seen, keys): (&str, &Keys),
) -> String {
    let mac = keys.beside_mac(&parts(node, &seq.to_be_bytes(), told, subject, seen));
    format!("{seen}{MARK}{}", HEXLOWER.encode(&mac))
}

/// What a MAC is over.
fn parts<'p>(
    node: &'p str,
    seq: &'p [u8; 8],
    (kind, signal): (&'p str, &'p str),
    subject: &'p Subject,
    seen: &'p str,
) -> [&'p [u8]; 7] {
    [
        b"optgate choice v1",
        node.as_bytes(),
        seq,
        kind.as_bytes(),
        signal.as_bytes(),
        subject.as_bytes(),
        seen.as_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Version, digest, person};
    use super::*;

    const ANN: [u8; 16] = *b"the account: ann";
    const BLINDING: [u8; 16] = [7; 16];

    /// The second record of node `a`: an opt-in that had heard of node `b`, after a first one with this chain value.
    fn opt_in(before: Link) -> Shipped {
        let subject = Subject::from_bytes(ANN);
        let canonical = Fields {
            version: Version::Second,
            seq: 2,
            node: "a",
            time_us: 1,
            site: "shop",
            kind: "opt-in",
            signal: "form",
            basis: "",
            policy: "p",
            person: Some(person(&subject, &BLINDING)),
            reference: "r",
        }
        .encode();
        let next = Head { seq: 1, link: before }.next(&canonical);
        Shipped {
            seq: 2,
            time_us: 1,
            site: "shop".into(),
            kind: "opt-in".into(),
            signal: "form".into(),
            subject: Some(ANN.to_vec()),
            blinding: Some(BLINDING.to_vec()),
            seen: Some("b:9".into()),
            reference: Some("r".into()),
            canonical: Some(canonical),
            digest: None,
            chain: next.link.to_vec(),
        }
    }

    fn row<'r>(shipped: &'r Shipped, before: &'r Link) -> Row<'r> {
        Row {
            node: "a",
            seq: shipped.seq,
            kind: &shipped.kind,
            signal: &shipped.signal,
            subject: shipped.subject.as_deref(),
            seen: shipped.seen.as_deref(),
            blinding: shipped.blinding.as_deref(),
            canonical: shipped.canonical.as_deref(),
            chain: Some(&shipped.chain),
            before: Some(before),
        }
    }

    /// Whoever may write the database and has not the secret opts nobody in.
    #[test]
    fn what_is_no_opt_out_is_believed_only_where_it_is_proven() {
        let (keys, before) = (Keys::derive(b"secret"), [3; 32]);
        let of =
            |shipped: &Shipped| believe(&row(shipped, &before), &keys).map(|c| (c.kind, c.unproven, c.seen));
        let (back_in, out) =
            ((Kind::OptIn, false, Seen::parse("b:9")), (Kind::OptOut, true, Seen::default()));
        let earlier = opt_in(before);
        assert_eq!(of(&earlier), Some(back_in.clone()), "an earlier version's, by its bytes and the chain");
        let mut vouched = opt_in(before);
        vouch(&mut vouched, "a", &keys);
        assert_eq!(of(&vouched), Some(back_in.clone()));
        let pruned = |row: &Shipped| {
            let digest = row.canonical.as_deref().map(|bytes| digest(bytes).to_vec());
            Shipped {
                canonical: None,
                blinding: None,
                reference: None,
                site: String::new(),
                digest,
                ..row.clone()
            }
        };
        assert_eq!(of(&pruned(&vouched)), Some(back_in.clone()), "it stays vouched for");
        assert_eq!(of(&pruned(&earlier)), Some(out.clone()), "nothing proves it any more");
        let (other, seen) = (Some(b"the account: ben".to_vec()), vouched.seen.clone());
        let more = seen.as_deref().map(|seen| seen.replace("b:9", "b:99"));
        for (what, forged) in [
            ("another account", Shipped { subject: other, ..pruned(&vouched) }),
            ("another number", Shipped { seq: 3, ..pruned(&vouched) }),
            ("more seen", Shipped { seen: more, ..pruned(&vouched) }),
            ("another chain", Shipped { chain: vec![9; 32], ..earlier.clone() }),
            ("other bytes", Shipped { canonical: Some(b"x".to_vec()), ..earlier.clone() }),
            ("another blinding", Shipped { blinding: None, ..earlier.clone() }),
        ] {
            assert_eq!(of(&forged), Some(out.clone()), "{what}");
        }
        let mut opt_out = pruned(&Shipped { kind: "opt-out".into(), ..earlier.clone() });
        assert!(!believe(&row(&opt_out, &before), &keys).unwrap().unproven, "of an earlier version");
        let ann = Subject::from_bytes(ANN);
        opt_out.seen = Some(with_mac(("a", 2), ("opt-out", "form"), &ann, ("b:9", &keys)));
        assert!(!believe(&row(&opt_out, &before), &keys).unwrap().unproven);
        opt_out.subject = Some(b"the account: ben".to_vec());
        assert!(believe(&row(&opt_out, &before), &keys).unwrap().unproven, "given to another account");
        let strangers = Keys::derive(b"another");
        assert!(believe(&row(&pruned(&vouched), &before), &strangers).unwrap().unproven);
        let rotated = Keys::derive(b"new").with_older(&[b"secret"]);
        assert!(!believe(&row(&pruned(&vouched), &before), &rotated).unwrap().unproven);
    }

    /// The column says otherwise than the bytes: they are the record.
    #[test]
    fn a_kind_that_was_changed_is_read_from_the_bytes() {
        let (keys, before) = (Keys::derive(b"secret"), [3; 32]);
        let mut changed = opt_in(before);
        changed.kind = "optin".into();
        assert_eq!(believe(&row(&changed, &before), &keys).unwrap().kind, Kind::OptIn);
        changed.canonical = None;
        assert_eq!(believe(&row(&changed, &before), &keys).unwrap().kind, Kind::OptOut);
        let nobody = Shipped { subject: None, ..opt_in(before) };
        assert_eq!(believe(&row(&nobody, &before), &keys), None);
        let way = Shipped { kind: "opt-out".into(), signal: "smoke".into(), ..opt_in(before) };
        assert_eq!(believe(&row(&way, &before), &keys).unwrap().source, Source::Carried);
    }
}
