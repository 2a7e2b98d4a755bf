//! Which choice of a person holds, when several nodes recorded choices of theirs.
//!
//! No clock decides: clocks of two nodes differ, and a person's second choice must not lose to the first. An opt-out
//! holds until an opt-in whose node knew of it; an opt-out that the opt-in's node had not heard of (the network was
//! cut, or both came at once) stays. This is the observed-remove set of Shapiro et al. (2011), with the opt-out as
//! what is added: whatever the order in which records arrive, every node comes to the same answer, and in doubt the
//! person is protected.
//!
//! What a node knew is one number for every node it hears of: the last record it had taken in. A node's own records
//! are numbered without gaps and arrive in their order, so that number says it all.

use std::collections::BTreeMap;

use super::record::{Kind, Source};

/// How far a node had heard every other one when it recorded something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen(BTreeMap<String, i64>);

impl Seen {
    /// The last record taken in of a node; 0 when none was.
    pub(super) fn of(&self, node: &str) -> i64 {
        self.0.get(node).copied().unwrap_or(0)
    }

    /// A node's records up to this one were taken in.
    pub(super) fn advance(&mut self, node: &str, seq: i64) {
        match self.0.get_mut(node) {
            Some(known) => *known = (*known).max(seq),
            None => _ = self.0.insert(node.to_owned(), seq),
        }
    }

    /// Every node heard of, and its last record taken in.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(node, seq)| (node.as_str(), *seq))
    }

    /// Nodes heard of.
    pub(super) fn nodes(&self) -> usize {
        self.0.len()
    }

    /// `NODE:SEQ,NODE:SEQ`, by name.
    pub(super) fn to_text(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(node, seq)| format!("{node}:{seq}")).collect();
        parts.join(",")
    }

    /// Reads [`Seen::to_text`] back; what cannot be read counts as not seen.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split(',').filter_map(|part| {
            let (node, seq) = part.split_once(':')?;
            Some((node.to_owned(), seq.parse().ok()?))
        });
        Self(pairs.collect())
    }
}

/// One recorded choice about a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Who recorded it.
    pub(super) node: String,
    /// Its number there.
    pub(super) seq: i64,
    /// Which.
    pub(super) kind: Kind,
    /// How it arrived.
    pub(super) source: Source,
    /// For anything but an opt-out: what its node had heard of the others.
    pub(super) seen: Seen,
}

impl Told {
    /// Whether this was chosen in knowledge of an opt-out.
    fn knew(&self, other: &Self) -> bool {
        if self.node == other.node { other.seq < self.seq } else { other.seq <= self.seen.of(&other.node) }
    }
}

/// What holds of all choices, in the order in which one journal would hold it; empty when nothing was recorded.
///
/// An opt-in comes before the opt-outs that it did not end, and a person's own opt-out after those that arrived
/// otherwise: so whoever folds them sees a conflict (11 CCR 7025(c)(3)) where there is one. A programme is kept where
/// its node knew of every opt-out by the person's own hand (7025(c)(4)). It tells of an opt-out as well, so it comes
/// last, and before an opt-in whose node knew of it.
pub(super) fn merge(told: &[Told]) -> Vec<(Kind, Source)> {
    let of = |kind: Kind| told.iter().filter(move |t| t.kind == kind);
    let mut outs: Vec<Source> =
        of(Kind::OptOut).filter(|out| !of(Kind::OptIn).any(|i| i.knew(out))).map(|t| t.source).collect();
    outs.sort_by_key(|source| *source == Source::Form);
    let own = |out: &&Told| out.source == Source::Form;
    let kept = of(Kind::Programme).find(|kept| of(Kind::OptOut).filter(own).all(|out| kept.knew(out)));
    let back_in = of(Kind::OptIn).map(|t| (Kind::OptIn, t.source)).next();
    let ended = kept.is_some_and(|kept| of(Kind::OptIn).any(|i| i.knew(kept)));
    let kept = |when: bool| kept.map(|t| (Kind::Programme, t.source)).filter(|_| when);
    let outs = outs.into_iter().map(|source| (Kind::OptOut, source));
    kept(ended).into_iter().chain(back_in).chain(outs).chain(kept(!ended)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::known::Known;
    use super::*;
    use crate::privacy::Standing;

    fn out(node: &str, seq: i64) -> Told {
        Told { node: node.into(), seq, kind: Kind::OptOut, source: Source::Gpc, seen: Seen::default() }
    }

    fn back_in(node: &str, seq: i64, seen: &str) -> Told {
        Told { kind: Kind::OptIn, source: Source::Form, seen: Seen::parse(seen), ..out(node, seq) }
    }

    fn kind(told: &[Told]) -> Option<Kind> {
        let held = merge(told);
        held.iter()
            .map(|(kind, _)| *kind)
            .find(|k| *k == Kind::OptOut)
            .or(held.first().map(|(kind, _)| *kind))
    }

    #[test]
    fn an_opt_in_ends_the_opt_outs_that_its_node_knew() {
        assert_eq!(kind(&[]), None);
        assert_eq!(kind(&[out("a", 1)]), Some(Kind::OptOut));
        assert_eq!(kind(&[out("a", 1), back_in("a", 2, "")]), Some(Kind::OptIn));
        assert_eq!(kind(&[out("a", 1), back_in("b", 9, "a:1")]), Some(Kind::OptIn));
        assert_eq!(kind(&[back_in("a", 1, ""), out("a", 2)]), Some(Kind::OptOut), "a later opt-out holds");
    }

    /// Clock skew does not reorder a person's choices, and during a partition the protective one holds.
    #[test]
    fn an_opt_out_that_the_opt_in_did_not_know_of_holds() {
        assert_eq!(kind(&[out("a", 2), back_in("b", 9, "a:1")]), Some(Kind::OptOut));
        assert_eq!(kind(&[out("a", 1), out("c", 1), back_in("b", 9, "a:1")]), Some(Kind::OptOut));
        let both = [out("a", 1), out("c", 1), back_in("b", 9, "a:1"), back_in("a", 2, "c:1")];
        assert_eq!(kind(&both), Some(Kind::OptIn), "two opt-ins together knew both");
    }

    #[test]
    fn only_sources_of_what_holds_are_named_and_the_persons_own_hand_comes_last() {
        let told =
            [out("a", 1), back_in("a", 2, ""), Told { source: Source::Form, ..out("a", 3) }, out("b", 1)];
        let held = [(Kind::OptIn, Source::Form), (Kind::OptOut, Source::Gpc), (Kind::OptOut, Source::Form)];
        assert_eq!(merge(&told), held);
    }

    /// 11 CCR 7025(c)(4): a signal does not end a programme, the person's own opt-out does, also one that the
    /// programme's node had not heard of.
    #[test]
    fn a_programme_is_kept_by_whoever_knew_of_every_opt_out_by_hand() {
        let kept = Told { kind: Kind::Programme, source: Source::Form, ..back_in("b", 5, "a:1") };
        let by_hand = |seq| Told { source: Source::Form, ..out("a", seq) };
        let keeps = |told: &[Told]| merge(told).contains(&(Kind::Programme, Source::Form));
        assert!(keeps(&[out("a", 9), kept.clone()]));
        assert!(keeps(&[by_hand(1), kept.clone()]));
        assert!(!keeps(&[by_hand(2), kept]));
    }

    /// 11 CCR 7025(c)(4): the exception outlasts an opt-in, and is no opt-out that would stand above it; one that the
    /// opt-in's node had not heard of is.
    #[test]
    fn a_programme_tells_of_an_opt_out_until_an_opt_in_that_knew_of_it() {
        let kept = |node: &str, seq| Told { kind: Kind::Programme, ..back_in(node, seq, "a:1") };
        let stands = |told: &[Told]| {
            let fold = |known: Known, (kind, source): &(Kind, Source)| known.after(*kind, *source);
            merge(told).iter().fold(Known::default(), fold).standing()
        };
        assert_eq!(stands(&[kept("a", 2)]), Standing::Programme);
        assert_eq!(stands(&[out("a", 1), kept("a", 2), back_in("a", 3, "")]), Standing::OptedIn);
        assert_eq!(stands(&[out("a", 1), kept("a", 2), back_in("b", 1, "a:2")]), Standing::OptedIn);
        assert_eq!(stands(&[out("a", 1), kept("a", 2), back_in("b", 1, "a:1")]), Standing::Programme);
        let again = [out("a", 1), kept("a", 2), back_in("a", 3, ""), out("a", 4)];
        assert_eq!(stands(&again), Standing::Programme, "and covers the signal after it");
    }

    #[test]
    fn what_was_seen_is_written_and_read_back() {
        let mut seen = Seen::default();
        for (node, seq) in [("b2", 7), ("a1", 3), ("b2", 5)] {
            seen.advance(node, seq);
        }
        assert_eq!(seen.to_text(), "a1:3,b2:7");
        assert_eq!(Seen::parse("a1:3,b2:7"), seen);
        assert_eq!(Seen::parse("a1:x,:,b2"), Seen::default(), "garbage was not seen");
    }

    /// What happens at one node of a few.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A choice is made at a node.
        Choose(usize, Kind),
        /// A node hears the next record of another.
        Hear { at: usize, of: usize },
    }

    fn step(nodes: usize) -> impl Strategy<Value = Step> {
        let kind = prop_oneof![Just(Kind::OptOut), Just(Kind::OptIn)];
        prop_oneof![
            (0..nodes, kind).prop_map(|(node, kind)| Step::Choose(node, kind)),
            (0..nodes, 0..nodes).prop_map(|(at, of)| Step::Hear { at, of }),
        ]
    }

    /// A record by its node and number.
    type Id = (usize, i64);

    /// The plain statement of the rule, apart from the code: every opt-out is a thing that is there, and an opt-in
    /// takes away those that are there at its node.
    #[derive(Default, Clone)]
    struct Model {
        there: BTreeSet<Id>,
        gone: BTreeSet<Id>,
    }

    proptest! {
        /// Any number of choices, heard in any order: all nodes end up with what the model says.
        #[test]
        fn every_order_of_hearing_ends_in_what_the_model_says(steps in prop::collection::vec(step(3), 0..60)) {
            let names = ["a", "b", "c"];
            let mut logs: [Vec<Told>; 3] = Default::default();
            let mut seen: [Seen; 3] = Default::default();
            let mut knows: [Model; 3] = Default::default();
            // What each record takes away, for the model.
            let mut takes: Vec<(Id, BTreeSet<Id>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Choose(at, kind) => {
                        let seq = logs[at].len() as i64 + 1;
                        let told = Told { kind, seen: seen[at].clone(), ..out(names[at], seq) };
                        if kind == Kind::OptOut {
                            knows[at].there.insert((at, seq));
                        } else {
                            let gone = knows[at].there.clone();
                            takes.push(((at, seq), gone.clone()));
                            knows[at].gone.extend(gone);
                        }
                        logs[at].push(told);
                    }
                    Step::Hear { at, of } if at != of => {
                        let next = seen[at].of(names[of]) + 1;
                        if let Some(told) = logs[of].get(next as usize - 1).cloned() {
                            seen[at].advance(names[of], next);
                            if told.kind == Kind::OptOut {
                                knows[at].there.insert((of, next));
                            } else if let Some((_, gone)) = takes.iter().find(|(who, _)| *who == (of, next)) {
                                knows[at].gone.extend(gone.clone());
                            }
                        }
                    }
                    Step::Hear { .. } => {}
                }
            }
            // Each node, by what it has heard so far.
            for at in 0..3 {
                let heard: Vec<Told> = (0..3)
                    .flat_map(|of| {
                        let upto = if of == at { logs[of].len() } else { seen[at].of(names[of]) as usize };
                        logs[of][..upto].to_vec()
                    })
                    .collect();
                let holds = knows[at].there.difference(&knows[at].gone).next().is_some();
                prop_assert_eq!(kind(&heard) == Some(Kind::OptOut), holds);
            }
            // Everything heard, in two orders.
            let mut all: Vec<Told> = logs.concat();
            let merged = kind(&all);
            all.reverse();
            prop_assert_eq!(kind(&all), merged);
            let gone: BTreeSet<_> = takes.iter().flat_map(|(_, gone)| gone.clone()).collect();
            let outs = logs.iter().enumerate().flat_map(|(at, log)| {
                log.iter().filter(|t| t.kind == Kind::OptOut).map(move |t| (at, t.seq))
            });
            prop_assert_eq!(merged == Some(Kind::OptOut), outs.into_iter().any(|o| !gone.contains(&o)));
        }
    }
}
