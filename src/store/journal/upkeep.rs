//! What was done to the journal itself, as a record in its chain: the record of an order that was carried out, written in
//! the transaction that carries it out.
//!
//! ```text
//! site nothing · kind "upkeep" · signal what was done · basis who had it done · person nothing
//! policy = "v1" | SP word=value | ...
//!
//!   prune    records=N before=TIME   records of before then gave their bytes for their digests; untied=N of them had lost
//!                                    what tied them to accounts before, and tied=N lose it so here: the database that
//!                                    nodes share keeps whose they were, and vouched=N of them with a MAC
//!   erase    records=N               what tied them to accounts is gone, and elsewhere=N others, and pruned=N of which it
//!                                    had the digest alone, lost it in the database that nodes share; where accounts are
//!                                    kept there, also shared=N/DIGEST erasure=ID
//!   hold     hold=N record=N         or site=NAME; the list of holds has the reason
//!   release  hold=N
//!   signer   key=NAME                another key signs from here on
//!   secret   check=CHECK carried=N   accounts are hashed under another secret from here on; so many had gone over to
//!                                    another name before
//!   retire   secrets=N               those of before are not needed any more
//!   seal     pruned=N untied=N       what an earlier version left without a word, found at the upgrade; left=N: so many
//!                                    records, and no more, are tied to no account any more, whatever was said before;
//!                                    secrets=CHECK/N,CHECK/N: accounts are hashed under these, each since record N;
//!                                    sent=N: so many pruned records go to the database without whose they were;
//!                                    outlived=N: so many hashes under earlier secrets are not needed any more, for what is
//!                                    on record under the newest holds in their place
//!
//!   kept=N/DIGEST dropped=N/DIGEST   with prune, erase and seal: see `kept`
//! ```
//!
//! It names no site in the place of one, so that no consumer is ever shown it, and holds nothing that leads to a person:
//! of a hold the record's number and not its reference, which the record itself loses when it is pruned; no reason,
//! which somebody typed. It is never pruned: what it seals stands on it.

use data_encoding::HEXLOWER;

use super::chain::Fields;
use super::seal::{Seal, Shared, Tally, There};
use crate::store::time;

/// The kind of such a record. No choice of a person has it: see [`crate::store::Kind`].
pub(in crate::store) const KIND: &str = "upkeep";

/// The form of the text; another form gets another word.
const FORM: &str = "v1";

/// Who had something done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum By {
    /// Somebody typed it.
    Order,
    /// `store.retention`.
    Retention,
    /// A start, which found a new key or an older journal.
    Start,
    /// What ships to the database that nodes share, and found it without records.
    Feed,
    /// The server at its work.
    Server,
}

impl By {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Retention => "retention",
            Self::Start => "start",
            Self::Feed => "feed",
            Self::Server => "server",
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Deed {
    Prune {
        records: u64,
        before_us: i64,
        untied: u64,
        tied: u64,
    },
    Erase {
        records: u64,
        there: There,
    },
    HoldRecord {
        hold: i64,
        seq: i64,
    },
    HoldSite {
        hold: i64,
        site: String,
    },
    Release {
        hold: i64,
    },
    Signer {
        key: String,
    },
    /// `carried`: accounts that had gone over to another name by then.
    Secret {
        check: String,
        carried: u64,
    },
    Retire {
        secrets: u64,
    },
    Seal {
        pruned: u64,
        untied: u64,
    },
    /// What was said of untied records was more than there are, by the prunes of an earlier version.
    Left {
        untied: u64,
    },
    /// The secrets of a journal whose name does not say which it began with.
    Listed {
        secrets: Secrets,
    },
    /// Pruned records go to the database that nodes share, and this journal does not know any more whose they were.
    Sent {
        records: u64,
    },
    /// Hashes under earlier secrets are not needed: an earlier record under the newest holds in their place.
    Outlived {
        hashes: u64,
    },
}

/// Secrets that accounts are hashed under, by their checks, and since which record.
pub(in crate::store) type Secrets = Vec<(String, i64)>;

impl Deed {
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Prune { .. } => "prune",
            Self::Erase { .. } => "erase",
            Self::HoldRecord { .. } | Self::HoldSite { .. } => "hold",
            Self::Release { .. } => "release",
            Self::Signer { .. } => "signer",
            Self::Secret { .. } => "secret",
            Self::Retire { .. } => "retire",
            Self::Seal { .. }
            | Self::Left { .. }
            | Self::Listed { .. }
            | Self::Sent { .. }
            | Self::Outlived { .. } => "seal",
        }
    }

    pub(super) fn text(&self, seal: &Seal) -> String {
        let said = match self {
            Self::Prune { records, before_us, untied, tied } => {
                let before = time::shortest(*before_us);
                format!("records={records} before={before} untied={untied} tied={tied} vouched={tied}")
            }
            Self::Erase { records, there: There { elsewhere, pruned, kept } } => {
                let said = format!("records={records} elsewhere={elsewhere} pruned={pruned}");
                match kept {
                    None => said,
                    Some(Shared { erasure, kept }) => {
                        format!("{said} shared={} erasure={}", write_tally(kept), HEXLOWER.encode(erasure))
                    }
                }
            }
            Self::HoldRecord { hold, seq } => format!("hold={hold} record={seq}"),
            Self::HoldSite { hold, site } => format!("hold={hold} site={site}"),
            Self::Release { hold } => format!("hold={hold}"),
            Self::Signer { key } => format!("key={key}"),
            Self::Secret { check, carried } => format!("check={check} carried={carried}"),
            Self::Retire { secrets } => format!("secrets={secrets}"),
            Self::Seal { pruned, untied } => format!("pruned={pruned} untied={untied}"),
            // A program that does not know the last word reads that nothing was done, which is so.
            Self::Left { untied } => format!("pruned=0 untied=0 left={untied}"),
            Self::Listed { secrets } => {
                let secrets: Vec<_> =
                    secrets.iter().map(|(check, since)| format!("{check}/{since}")).collect();
                format!("pruned=0 untied=0 secrets={}", secrets.join(","))
            }
            Self::Sent { records } => format!("pruned=0 untied=0 sent={records}"),
            Self::Outlived { hashes } => format!("pruned=0 untied=0 outlived={hashes}"),
        };
        let mut text = format!("{FORM} {said}");
        for (word, tally) in [("kept", &seal.kept), ("dropped", &seal.dropped)] {
            if tally.count > 0 {
                text += &format!(" {word}={}", write_tally(tally));
            }
        }
        text
    }
}

fn write_tally(Tally { count, digest }: &Tally) -> String {
    format!("{count}/{}", HEXLOWER.encode(digest))
}

/// What such a record says that can be held against the rest of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::store) struct Upkeep {
    /// Records that were pruned then.
    pub(in crate::store) pruned: u64,
    /// Of them, those that had lost what tied them to accounts before; `None` where an earlier version did not say.
    pub(in crate::store) pruned_untied: Option<u64>,
    /// Of them, those that were tied to accounts until then; `None` where an earlier version did not say.
    pub(in crate::store) pruned_tied: Option<u64>,
    /// Whose those were, the database that nodes share is told with a MAC.
    pub(in crate::store) vouched: bool,
    /// Pruned records that went to the database that nodes share without whose they were.
    pub(in crate::store) sent: u64,
    /// Hashes under earlier secrets that were found not to be needed any more.
    pub(in crate::store) outlived: u64,
    /// Records that lost what tied them to accounts then.
    pub(in crate::store) erased: u64,
    /// Other records that lost it then in the database that nodes share; `None` where an earlier version did not say.
    pub(in crate::store) elsewhere: Option<u64>,
    /// Pruned records that lost it then there.
    pub(in crate::store) pruned_there: u64,
    /// An earlier version did not say how many those are.
    pub(in crate::store) vague_there: bool,
    /// So many are tied to no account any more, whatever was said before.
    pub(in crate::store) left: Option<u64>,
    /// What of accounts was kept and dropped then.
    pub(in crate::store) seal: Seal,
    /// What of accounts was kept then in the database that nodes share.
    pub(in crate::store) shared: Option<Shared>,
    /// The key that signs from there on, if it is another.
    pub(in crate::store) signer: Option<String>,
    /// The check of the secret that accounts are hashed under from there on, if it is another.
    pub(in crate::store) secret: Option<String>,
    /// Accounts that had gone over to another name when it came; `None` where an earlier version did not say.
    pub(in crate::store) carried: Option<u64>,
    /// Only the newest secret is needed from there on.
    pub(in crate::store) retired: bool,
    /// These are all secrets that accounts are hashed under there.
    pub(in crate::store) listed: Option<Secrets>,
}

/// It is upkeep, in words that this program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("says what was done to the journal in words of a later version; run that version or a newer one")]
pub(in crate::store) struct Unreadable;

impl Upkeep {
    /// What a record says, if it is one of upkeep.
    pub(in crate::store) fn of(fields: &Fields<'_>) -> Result<Option<Self>, Unreadable> {
        if fields.kind != KIND {
            return Ok(None);
        }
        Self::read(fields.signal, fields.policy).map(Some).ok_or(Unreadable)
    }

    /// An earlier version did not say what became of pruned records in the database that nodes share.
    pub(in crate::store) const fn is_vague_of_pruned(&self) -> bool {
        (self.pruned > 0 && self.pruned_tied.is_none()) || self.vague_there
    }

    /// How many records were pruned at most, of which the database that nodes share knows without a MAC whose they were.
    pub(in crate::store) fn pruned_unvouched(&self) -> u64 {
        if self.vouched { 0 } else { self.pruned_tied.unwrap_or(self.pruned) }
    }

    fn read(deed: &str, text: &str) -> Option<Self> {
        let said = text.strip_prefix(FORM)?.strip_prefix(' ')?;
        let word = |word: &str| said.split(' ').find_map(|part| part.strip_prefix(word)?.strip_prefix('='));
        let number = |name: &str| word(name)?.parse().ok();
        // A word that an earlier version did not write; one that is no number is none of ours.
        let since = |name: &str| word(name).map_or(Some(None), |number| number.parse().ok().map(Some));
        let tally = |name: &str| word(name).map_or(Some(Tally::default()), read_tally);
        let seal = || Some(Seal { kept: tally("kept")?, dropped: tally("dropped")? });
        let shared = || match (word("shared"), word("erasure")) {
            (None, None) => Some(None),
            (Some(kept), Some(erasure)) => {
                let erasure = HEXLOWER.decode(erasure.as_bytes()).ok()?.try_into().ok()?;
                Some(Some(Shared { erasure, kept: read_tally(kept)? }))
            }
            _ => None,
        };
        Some(match deed {
            "prune" => Self {
                pruned: number("records")?,
                pruned_untied: since("untied")?,
                pruned_tied: since("tied")?,
                vouched: word("vouched").is_some(),
                seal: seal()?,
                ..Self::default()
            },
            "erase" => Self {
                erased: number("records")?,
                elsewhere: since("elsewhere")?,
                pruned_there: since("pruned")?.unwrap_or_default(),
                vague_there: word("pruned").is_none(),
                seal: seal()?,
                shared: shared()?,
                ..Self::default()
            },
            "seal" => Self {
                pruned: number("pruned")?,
                pruned_untied: Some(0),
                sent: since("sent")?.unwrap_or_default(),
                outlived: since("outlived")?.unwrap_or_default(),
                erased: number("untied")?,
                left: since("left")?,
                listed: word("secrets").map_or(Some(None), |listed| read_secrets(listed).map(Some))?,
                seal: seal()?,
                ..Self::default()
            },
            "signer" => Self { signer: Some(word("key")?.to_owned()), ..Self::default() },
            "secret" => Self {
                secret: Some(word("check")?.to_owned()),
                carried: since("carried")?,
                ..Self::default()
            },
            // A site may have any name, so nothing else is read there.
            "hold" | "release" => Self::default(),
            "retire" => Self { retired: true, ..Self::default() },
            _ => return None,
        })
    }
}

fn read_tally(text: &str) -> Option<Tally> {
    let (count, digest) = text.split_once('/')?;
    let digest = HEXLOWER.decode(digest.as_bytes()).ok()?.try_into().ok()?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    Some(Tally { count, digest })
}

fn read_secrets(text: &str) -> Option<Secrets> {
    let secret = |secret: &str| {
        let (check, since) = secret.split_once('/')?;
        Some((check.to_owned(), since.parse().ok()?))
    };
    text.split(',').map(secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is evidence: under this form it may never be read otherwise.
    #[test]
    fn what_was_done_is_read_back_from_what_the_record_says() {
        let tally = |count, byte| Tally { count, digest: [byte; 32] };
        let seal = Seal { kept: tally(3, 0xab), dropped: tally(1, 0xcd) };
        let none = Seal::default();
        let (ab, cd) = ("ab".repeat(32), "cd".repeat(32));
        let prune = Deed::Prune { records: 5, before_us: 0, untied: 1, tied: 2 };
        let text = prune.text(&seal);
        let words = "v1 records=5 before=1970-01-01T00:00:00Z untied=1 tied=2 vouched=2";
        assert_eq!(text, format!("{words} kept=3/{ab} dropped=1/{cd}"));
        let read = |deed: &Deed, seal: &Seal| Upkeep::read(deed.word(), &deed.text(seal)).unwrap();
        let (pruned_untied, pruned_tied) = (Some(1), Some(2));
        let said = Upkeep { pruned: 5, pruned_untied, pruned_tied, vouched: true, seal, ..Upkeep::default() };
        assert_eq!((said.pruned_unvouched(), read(&prune, &seal)), (0, said));
        // As an earlier version wrote it.
        let text = "v1 records=5 before=1970-01-01T00:00:00Z";
        let said = Upkeep { pruned: 5, ..Upkeep::default() };
        assert_eq!((said.pruned_unvouched(), Upkeep::read("prune", text)), (5, Some(said)));
        let text = format!("{text} untied=1 tied=2");
        assert_eq!(Upkeep::read("prune", &text).map(|said| said.pruned_unvouched()), Some(2));
        for shared in [None, Some(Shared { erasure: [7; 16], kept: tally(2, 0xef) })] {
            let erase = Deed::Erase { records: 2, there: There { elsewhere: 3, pruned: 4, kept: shared } };
            let said = Upkeep { erased: 2, elsewhere: Some(3), seal, shared, ..Upkeep::default() };
            let said = Upkeep { pruned_there: 4, ..said };
            assert_eq!(read(&erase, &seal), said, "erased is not pruned");
        }
        let found = read(&Deed::Seal { pruned: 9, untied: 4 }, &none);
        assert_eq!((found.pruned, found.erased, found.left), (9, 4, None));
        let left = read(&Deed::Left { untied: 3 }, &none);
        assert_eq!((left.pruned, left.erased, left.left), (0, 0, Some(3)));
        let secret = read(&Deed::Secret { check: "c".into(), carried: 6 }, &none);
        assert_eq!((secret.secret.as_deref(), secret.carried), (Some("c"), Some(6)));
        let earlier = Upkeep::read("secret", "v1 check=c").unwrap();
        assert_eq!((earlier.secret.as_deref(), earlier.carried), (Some("c"), None));
        assert_eq!(read(&Deed::Signer { key: "k".into() }, &none).signer.as_deref(), Some("k"));
        assert!(read(&Deed::Retire { secrets: 1 }, &none).retired);
        let sent = read(&Deed::Sent { records: 6 }, &none);
        assert_eq!((sent.pruned, sent.erased, sent.sent), (0, 0, 6));
        let outlived = read(&Deed::Outlived { hashes: 7 }, &none);
        assert_eq!((outlived.pruned, outlived.erased, outlived.outlived), (0, 0, 7));
        let secrets = vec![("a".to_owned(), 1), ("b".to_owned(), 7)];
        let listed = read(&Deed::Listed { secrets: secrets.clone() }, &none);
        assert_eq!((listed.pruned, listed.erased, listed.listed), (0, 0, Some(secrets)));
        assert_eq!(Upkeep::read("seal", "v1 pruned=0 untied=0 secrets=a"), None);
        for deed in [
            Deed::HoldRecord { hold: 1, seq: 2 },
            Deed::HoldSite { hold: 1, site: format!("a records=9 kept=1/{ab}") },
            Deed::Release { hold: 1 },
        ] {
            assert_eq!(read(&deed, &none), Upkeep::default(), "{deed:?} seals nothing");
        }
    }

    /// What a later version says must not be taken for nothing.
    #[test]
    fn words_that_are_not_known_are_not_passed_over() {
        for (deed, text) in [
            ("prune", "v2 records=1 before=x"),
            ("prune", "v1 before=x"),
            ("prune", "v1 records=-1 before=x"),
            ("prune", "v1 records=1 untied=x"),
            ("seal", "v1 pruned=0 untied=0 left="),
            ("prune", "v1 records=1 kept=1"),
            ("prune", "v1 records=1 kept=0/00"),
            ("seal", "v1"),
            ("seal", "v1 pruned=1"),
            ("erase", "v1"),
            ("erase", "v1 records=1 erasure=00"),
            ("signer", "v1 check=k"),
            ("melt", "v1 records=1"),
        ] {
            assert_eq!(Upkeep::read(deed, text), None, "{deed} {text}");
        }
    }
}
