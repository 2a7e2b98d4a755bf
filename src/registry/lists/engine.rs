//! The matching engine: the `adblock` crate, of which nothing else is seen outside this file.
//!
//! Since 0.13 an [`adblock::Engine`] without the crate's `single-thread` feature is `Send + Sync`, but a
//! lock around its compiled patterns makes cores that share one wait for each other: so each core has its own.

use adblock::lists::{FilterSet, ParseOptions, ParsedLine, RuleTypes, parse_filter};
use adblock::request::Request;

use super::{FilterList, Question, allows};

/// Rules about requests only: what a list would hide on a page is not for a server.
fn options() -> ParseOptions {
    ParseOptions { rule_types: RuleTypes::NetworkOnly, ..ParseOptions::default() }
}

/// What a line of a list is.
pub(super) enum Line {
    /// A rule about requests.
    Rule,
    /// A comment, or a rule about what pages show.
    Aside,
    /// A rule about requests that cannot be used; why.
    Wrong(String),
}

/// Reads a line alone.
pub(super) fn read_line(line: &str) -> Line {
    use adblock::lists::FilterParseError::{Network, Unsupported};
    match parse_filter(line, false, options()) {
        Ok(ParsedLine::Network(_)) => match line.trim().split('$').next().unwrap_or_default() {
            // A host list's `0.0.0.0 ads.example`, a sentence: no address has a space in it.
            pattern if pattern.contains(char::is_whitespace) && !pattern.starts_with('/') => {
                Line::Wrong("an address has no spaces".to_owned())
            }
            _ => Line::Rule,
        },
        Err(Network(error)) => Line::Wrong(error.to_string()),
        Err(Unsupported) | Ok(ParsedLine::Cosmetic(_)) => Line::Aside,
        Err(error) => match line.trim() {
            "" => Line::Aside,
            _ => Line::Wrong(error.to_string()),
        },
    }
}

/// The lists of one role, together.
fn one_role(lists: &[&FilterList], allow: bool, debug: bool) -> adblock::Engine {
    let mut set = FilterSet::new(debug);
    for list in lists.iter().filter(|list| allows(list.role()) == allow) {
        let text = match allow {
            // Whatever an allow list names, as a rule or as an exception, is excepted.
            true => list.text().lines().map(|line| line.trim_start().trim_start_matches("@@")).fold(
                String::with_capacity(list.text().len()),
                |mut text, line| {
                    text.push_str(line);
                    text.push('\n');
                    text
                },
            ),
            false => list.text().to_owned(),
        };
        set.add_filter_list(text, options());
    }
    adblock::Engine::new_with_filter_set(set)
}

/// The lists that block and those that except.
pub(super) struct Engine {
    block: adblock::Engine,
    allow: Option<adblock::Engine>,
}

impl Engine {
    /// Builds both halves; `debug` keeps the rules' texts and lines.
    pub(super) fn build(lists: &[&FilterList], debug: bool) -> Self {
        let allow = lists.iter().any(|list| allows(list.role()));
        Self { block: one_role(lists, false, debug), allow: allow.then(|| one_role(lists, true, debug)) }
    }

    /// The same once more, from its compiled form; from the texts should that fail.
    pub(super) fn copy(&self, lists: &[&FilterList]) -> Self {
        let copied = |engine: &adblock::Engine| {
            let mut copy = adblock::Engine::default();
            copy.deserialize(&engine.serialize()).ok().map(|()| copy)
        };
        let allow = self.allow.as_ref().map(copied);
        match (copied(&self.block), allow) {
            (Some(block), None) => Self { block, allow: None },
            (Some(block), Some(Some(allow))) => Self { block, allow: Some(allow) },
            _ => Self::build(lists, false),
        }
    }

    /// Whether a list blocks the request and none excepts it.
    pub(super) fn matches(&self, question: &Question<'_>) -> bool {
        let request = request(question);
        self.block.check_network_request(&request).should_block()
            && !self.allow.as_ref().is_some_and(|allow| allow.check_network_request(&request).should_block())
    }

    /// Position among the blocking lists, line from 1, and text of the rule that blocks; for complaints, and
    /// only from an engine built with `debug`.
    pub(super) fn rule(&self, question: &Question<'_>) -> Option<(usize, usize, String)> {
        let rule = self.block.check_network_request(&request(question)).filter?;
        let at = rule.source_location?;
        Some((at.source_index as usize, at.line_number as usize + 1, rule.raw_line.unwrap_or_default()))
    }
}

fn request(question: &Question<'_>) -> Request {
    let Question { url, host, source, kind } = question;
    Request::preparsed(url, host, source, kind.as_str(), question.third_party(), "get")
}
