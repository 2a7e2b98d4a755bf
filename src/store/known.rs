//! What is known about one account, in one word; and beside it, while opt-outs of the account are on their way to the
//! journal, what the journal has of it.

use super::record::{Kind, Source};
use crate::privacy::Standing;

/// ```text
/// bit  63       62 ............ 9   8         7          6          5    4    3 .. 0
///      dropped  seq of last record   underway  programme  overruled  in   out  sources recorded in this standing
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known(pub(super) u64);

impl Known {
    const OUT: u64 = 1 << 4;
    const IN: u64 = 1 << 5;
    /// A signal opted it out after it had opted back in.
    const OVERRULED: u64 = 1 << 6;
    /// It keeps a programme in spite of opting out; a signal does not end that, its own opt-out does.
    const PROGRAMME: u64 = 1 << 7;
    /// There is an [`Underway`] of it.
    const UNDERWAY: u64 = 1 << 8;
    const SEQ_SHIFT: u32 = 9;
    /// It is opted out by what was honoured and is neither on record nor on its way there. Never without [`Self::UNDERWAY`].
    const DROPPED: u64 = 1 << 63;

    const SOURCES: u64 = 0b1111;
    const SEQ: u64 = !((1 << Self::SEQ_SHIFT) - 1) & !Self::DROPPED;

    const fn standing_bit(kind: Kind) -> u64 {
        match kind {
            Kind::OptOut => Self::OUT,
            Kind::OptIn => Self::IN,
            Kind::Programme => Self::PROGRAMME,
            Kind::Denied(_) => 0,
        }
    }

    const fn source_bit(source: Source) -> u64 {
        match source {
            Source::Gpc => 1,
            Source::Form => 1 << 1,
            Source::Carried => 1 << 2,
            Source::Import => 1 << 3,
        }
    }

    pub(super) const fn is(self, kind: Kind) -> bool {
        self.0 & Self::standing_bit(kind) != 0
    }

    /// The last word was one that lets something be sold or shared.
    pub(super) const fn lets_in(self) -> bool {
        matches!(self.standing(), Standing::OptedIn | Standing::Programme)
    }

    pub(super) const fn holds(self, kind: Kind, source: Source) -> bool {
        self.is(kind) && self.0 & Self::source_bit(source) != 0
    }

    /// The state after a change, of the same last record; the other standing's sources are forgotten.
    pub(super) const fn after(self, kind: Kind, source: Source) -> Self {
        if !kind.is_choice() {
            return self;
        }
        if matches!(kind, Kind::Programme) {
            // An exception to an opt-out: that there is one, it says also where the opt-out's own record is forgotten.
            let out = if self.is(Kind::OptOut) { self.0 & !Self::OVERRULED } else { self.0 & Self::SEQ };
            return Self(out | Self::OUT | Self::PROGRAMME);
        }
        // What a person chooses with their own hand is no conflict any more, and no exception to it holds.
        let settled = matches!(source, Source::Form);
        let ends = if settled && matches!(kind, Kind::OptOut) { Self::PROGRAMME } else { 0 };
        if self.is(kind) {
            let ends = if settled { ends | Self::OVERRULED } else { ends };
            return Self(self.0 & !ends | Self::source_bit(source));
        }
        let overruled = if self.is(Kind::OptIn) && !settled { Self::OVERRULED } else { 0 };
        let kept = self.0 & (Self::PROGRAMME & !ends | Self::SEQ);
        Self(Self::standing_bit(kind) | Self::source_bit(source) | overruled | kept)
    }

    /// The state after an opt-out that is honoured and not recorded: the next one of this source is a change again.
    const fn honouring(self, source: Source) -> Self {
        let bit = Self::source_bit(source);
        let held = if self.is(Kind::OptOut) { self.0 & bit } else { 0 };
        Self(self.after(Kind::OptOut, source).0 & !bit | held)
    }

    /// As a file of the index keeps it; `None` for what the file need not say, because whoever reads it learns it
    /// elsewhere: that nothing is known, or an opt-out of which only that it holds was kept. What other nodes recorded
    /// has a source, or is a programme, and is in the file.
    pub(super) const fn kept(self) -> Option<u64> {
        let told = self.0 & (Self::SOURCES | Self::PROGRAMME) != 0;
        if self.seq() == 0 && !told { None } else { Some(self.0) }
    }

    /// Reads [`Known::kept`] back. Earlier versions forgot the opt-out of a programme when its record was pruned.
    pub(super) const fn of_file(word: u64) -> Self {
        let known = Self(word);
        let alone = known.0 & (Self::PROGRAMME | Self::OUT | Self::IN) == Self::PROGRAMME;
        if alone { Self(known.0 | Self::OUT) } else { known }
    }

    /// What is left of an account that stood like this when its records were forgotten.
    pub(super) const fn left_of(standing: Standing) -> Self {
        match standing {
            // Of a conflict and of a programme nothing is left: only that the opt-out holds.
            Standing::OptedOut | Standing::Overruled | Standing::Programme => Self(Self::OUT),
            Standing::OptedOutByImport => Self(Self::OUT | Self::source_bit(Source::Import)),
            Standing::OptedIn | Standing::Unknown | Standing::NoAccount | Standing::NotLoaded => Self(0),
        }
    }

    /// The state of an account of which only that it is opted out was kept, and what was chosen since.
    pub(super) const fn suppressed(self) -> Self {
        if self.is(Kind::OptIn) { self } else { Self(self.0 | Self::OUT) }
    }

    pub(super) const fn with_seq(self, seq: i64) -> Self {
        Self(self.0 & !Self::SEQ | (seq.unsigned_abs() << Self::SEQ_SHIFT))
    }

    pub(super) const fn seq(self) -> i64 {
        ((self.0 & Self::SEQ) >> Self::SEQ_SHIFT).cast_signed()
    }

    /// Whether a signal opted it out after it had opted back in.
    pub(super) const fn is_overruled(self) -> bool {
        self.is(Kind::OptOut) && self.0 & Self::OVERRULED != 0
    }

    /// Whether its opt-out is to be handed over again.
    pub(super) const fn lacks_record(self) -> bool {
        self.0 & Self::DROPPED != 0
    }

    pub(super) const fn is_underway(self) -> bool {
        self.0 & Self::UNDERWAY != 0
    }

    pub(super) const fn standing(self) -> Standing {
        let only_import = self.0 & Self::SOURCES == Self::source_bit(Source::Import);
        match (self.is(Kind::OptOut), self.is(Kind::OptIn)) {
            (true, _) if self.is(Kind::Programme) => Standing::Programme,
            (true, _) if self.0 & Self::OVERRULED != 0 => Standing::Overruled,
            (true, _) if only_import => Standing::OptedOutByImport,
            (true, _) => Standing::OptedOut,
            (false, true) => Standing::OptedIn,
            (false, false) => Standing::Unknown,
        }
    }
}

/// An account with opt-outs that count already and are not on disk.
#[derive(Debug)]
pub(super) struct Underway {
    /// What the account comes to without them.
    pub(super) durable: Known,
    /// In the order in which they were handed over.
    claims: Vec<Claim>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    source: Source,
    /// It will not be recorded.
    dropped: bool,
}

impl Underway {
    /// Of an account without any.
    pub(super) const fn of(durable: Known) -> Self {
        Self { durable, claims: Vec::new() }
    }

    /// One more is handed over, in the place of one of this source that was not recorded.
    pub(super) fn claim(&mut self, source: Source) {
        self.claims.retain(|claim| claim.source != source || !claim.dropped);
        self.claims.push(Claim { source, dropped: false });
    }

    /// The last of this source will not be recorded now.
    pub(super) fn unclaim(&mut self, source: Source) {
        let mut latest = self.claims.iter_mut().rev();
        if let Some(claim) = latest.find(|claim| claim.source == source && !claim.dropped) {
            claim.dropped = true;
        }
    }

    /// The first of this source is on disk.
    pub(super) fn settle(&mut self, source: Source) {
        if let Some(at) = self.claims.iter().position(|claim| claim.source == source && !claim.dropped) {
            self.claims.remove(at);
        }
    }

    /// The way of the last one that was only honoured.
    pub(super) fn dropped(&self) -> Option<Source> {
        self.claims.iter().rev().find(|claim| claim.dropped).map(|claim| claim.source)
    }

    /// What the person chose with their own hand stands above what was only honoured.
    pub(super) fn forget_dropped(&mut self) {
        self.claims.retain(|claim| !claim.dropped);
    }

    /// What counts: the journal's word with every opt-out that is on its way above it. The flag says whether this is
    /// still needed.
    pub(super) fn live(&self) -> Known {
        let live = self.claims.iter().fold(self.durable, |known, claim| match claim.dropped {
            false => known.after(Kind::OptOut, claim.source),
            true => known.honouring(claim.source),
        });
        match self.claims.iter().all(|claim| claim.dropped) {
            true if live == self.durable => live,
            true => Known(live.0 | Known::UNDERWAY | Known::DROPPED),
            false => Known(live.0 | Known::UNDERWAY),
        }
    }
}
