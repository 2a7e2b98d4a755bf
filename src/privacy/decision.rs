//! The one place that turns signals into a decision.

use super::cookie::OwnCookie;
use super::signal::{Signals, Standing};

/// Whether decisions are carried out or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Decisions are carried out (the default).
    Enforce,
    /// Nothing is injected, set or recorded; what would happen is counted.
    Observe,
}

impl Mode {
    /// The word used in configuration, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// Why a visitor counts as opted out: the strongest ground that was present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Basis {
    /// `Sec-GPC: 1` on this request.
    Gpc,
    /// The account's stored opt-out, or an account whose state is not loaded yet.
    Account,
    /// Our own opt-out cookie.
    Cookie,
    /// The stored opt-out of a pseudonymous profile.
    Profile,
    /// A consent platform's cookie that says opted out.
    Cmp,
    /// A stored opt-out that came from an import.
    Import,
}

impl Basis {
    /// The word used in metrics and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gpc => "gpc",
            Self::Account => "account",
            Self::Cookie => "cookie",
            Self::Profile => "profile",
            Self::Cmp => "cmp",
            Self::Import => "import",
        }
    }

    /// Reads [`Basis::as_str`] back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Gpc, Self::Account, Self::Cookie, Self::Profile, Self::Cmp, Self::Import];
        all.into_iter().find(|basis| basis.as_str() == word)
    }
}

/// The answer, with its ground. Later stages only carry it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The ground of the opt-out; `None` when the visitor has not opted out.
    pub basis: Option<Basis>,
}

impl Decision {
    /// Not opted out.
    pub const NONE: Self = Self { basis: None };

    /// Opted out on this ground.
    #[must_use]
    pub const fn out(basis: Basis) -> Self {
        Self { basis: Some(basis) }
    }

    /// Whether the opt-out is in force.
    #[must_use]
    pub const fn opted_out(self) -> bool {
        self.basis.is_some()
    }

    /// The value of `Optgate-Decision` toward the origin. The list of its words is closed: a
    /// profile's stored opt-out reads as an account's.
    #[must_use]
    pub const fn header_value(self) -> &'static str {
        match self.basis {
            None => "none",
            Some(Basis::Gpc) => "opted-out;basis=gpc",
            Some(Basis::Account | Basis::Profile) => "opted-out;basis=account",
            Some(Basis::Cookie) => "opted-out;basis=cookie",
            Some(Basis::Cmp) => "opted-out;basis=cmp",
            Some(Basis::Import) => "opted-out;basis=import",
        }
    }
}

/// Decides from the signals of one request.
///
/// Opted out if any of: `Sec-GPC`, account, profile, own cookie, foreign cookie (11 CCR 7025(c)(1): the
/// levels are OR-combined). A valid explicit opt-in switches off only the foreign cookies; absence
/// never opts in (7025(c)(5)). The signal beats an earlier opt-in (7025(c)(3)).
///
/// Cost: a few comparisons, no allocation.
#[must_use]
pub const fn decide(signals: Signals) -> Decision {
    if signals.gpc {
        return Decision::out(Basis::Gpc);
    }
    match signals.account {
        Standing::OptedOut | Standing::Overruled | Standing::Programme | Standing::NotLoaded => {
            return Decision::out(Basis::Account);
        }
        Standing::OptedOutByImport => return Decision::out(Basis::Import),
        Standing::NoAccount | Standing::Unknown | Standing::OptedIn => {}
    }
    match signals.profile {
        Standing::OptedOut | Standing::Overruled | Standing::Programme | Standing::NotLoaded => {
            return Decision::out(Basis::Profile);
        }
        Standing::OptedOutByImport => return Decision::out(Basis::Import),
        Standing::NoAccount | Standing::Unknown | Standing::OptedIn => {}
    }
    match signals.own {
        OwnCookie::Out(_) => return Decision::out(Basis::Cookie),
        OwnCookie::In(_) => return Decision::NONE,
        OwnCookie::Absent | OwnCookie::Unusable => {}
    }
    if signals.foreign { Decision::out(Basis::Cmp) } else { Decision::NONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, 2 x 8 x 8 x 4 x 2 rows, against an independent statement of
    /// the rule.
    #[test]
    fn every_combination_of_signals_decides_as_the_design_says() {
        let standings = [
            Standing::NoAccount,
            Standing::Unknown,
            Standing::OptedOut,
            Standing::OptedOutByImport,
            Standing::OptedIn,
            Standing::Overruled,
            Standing::Programme,
            Standing::NotLoaded,
        ];
        let cookies =
            [OwnCookie::Absent, OwnCookie::Unusable, OwnCookie::Out(202_611), OwnCookie::In(202_611)];
        let mut rows = 0;
        for gpc in [false, true] {
            for (account, profile) in standings.into_iter().flat_map(|a| standings.map(|p| (a, p))) {
                for (own, foreign) in cookies.into_iter().flat_map(|own| [(own, false), (own, true)]) {
                    let stored_out = [account, profile].iter().any(|standing| {
                        use Standing::{NotLoaded, OptedOut, OptedOutByImport, Overruled, Programme};
                        matches!(standing, OptedOut | OptedOutByImport | Overruled | Programme | NotLoaded)
                    });
                    let own_out = matches!(own, OwnCookie::Out(_));
                    let foreign_counts = foreign && !matches!(own, OwnCookie::In(_));
                    let expected = gpc || stored_out || own_out || foreign_counts;
                    let got = decide(Signals { gpc, account, profile, own, foreign, ours: false });
                    let row = format!("gpc={gpc} {account:?} {profile:?} {own:?} foreign={foreign}");
                    assert_eq!(got.opted_out(), expected, "{row}");
                    if gpc {
                        assert_eq!(got.basis, Some(Basis::Gpc), "the signal of this request is named first");
                    }
                    rows += 1;
                }
            }
        }
        assert_eq!(rows, 1_024);
    }
}
