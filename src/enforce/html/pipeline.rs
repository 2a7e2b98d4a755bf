//! The stages a page's bytes go through, free of bodies and tasks: decode, open, transcode, rewrite,
//! encode.

use super::charset::{self, Opening, Transcoder};
use super::coding::{CodingError, Decoder, Encoder};
use super::mime::{self, Sniffed};
use super::plan::Recipe;
use super::{Kind, Plan, RewriteError, Rewriter, Summary, worker};
use crate::config::OnRewriteFailure;

/// Which stage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Decode(CodingError),
    Encode(CodingError),
    Rewrite(RewriteError),
}

impl From<CodingError> for Fault {
    fn from(error: CodingError) -> Self {
        Self::Decode(error)
    }
}

/// What became of a body that reached its end.
#[derive(Debug)]
pub(super) enum Outcome {
    Rewritten(Summary),
    NotHtml,
    /// The rewriter gave up and the rest passed, or the body grew beyond a bound that does not hold for its
    /// visitor.
    Passed(Fault),
}

/// Bytes that go out at once, so that a page which is large for its coded size does not gather here.
const ENOUGH: usize = 64 << 10;

pub(super) struct Pipeline {
    decoder: Decoder,
    rest: Rest,
}

/// Everything behind the decoder.
struct Rest {
    stage: Stage,
    transcoder: Option<Transcoder>,
    encoder: Encoder,
    head_charset: Option<&'static encoding_rs::Encoding>,
    opted_out: bool,
    on_failure: OnRewriteFailure,
    /// Bytes were given out: another answer is no longer possible.
    sent: bool,
    /// Scratch between two stages, kept for its memory.
    utf8: Vec<u8>,
    rewritten: Vec<u8>,
}

enum Stage {
    /// The first bytes, until they say how the rest is read.
    Opening {
        start: Vec<u8>,
        sniff: bool,
        xml: bool,
        plan: Box<Plan>,
    },
    Rewriting(Box<Rewriter>),
    /// The first bytes of a worker's script, until they say where our statements go.
    Worker {
        start: Vec<u8>,
        /// It is known what `start` is read as.
        opened: bool,
        /// Our statements, where there are any.
        ours: String,
    },
    /// Bytes pass unchanged from here on.
    Passing(Passing),
}

#[derive(Clone, Copy)]
enum Passing {
    NotHtml,
    Failed(RewriteError),
}

impl Pipeline {
    pub(super) fn new(
        decoder: Decoder,
        encoder: Encoder,
        recipe: &Recipe,
        plan: Plan,
        on_failure: OnRewriteFailure,
    ) -> Self {
        let start = Vec::new();
        let stage = match (recipe.kind, plan.guard) {
            (Kind::Worker, guard) => {
                let host = plan.page.host_str().unwrap_or_default();
                Stage::Worker {
                    start,
                    opened: false,
                    ours: guard.map_or_else(String::new, |placed| placed.guard.worker(host)),
                }
            }
            // XML says at its root what it is.
            (_, guard) => {
                let plan = Box::new(Plan { guard, ..plan });
                Stage::Opening { start, sniff: recipe.sniff && !recipe.xml, xml: recipe.xml, plan }
            }
        };
        let rest = Rest {
            stage,
            transcoder: None,
            encoder,
            head_charset: recipe.charset,
            opted_out: recipe.opted_out,
            on_failure,
            sent: false,
            utf8: Vec::new(),
            rewritten: Vec::new(),
        };
        Self { decoder, rest }
    }

    /// Takes the next bytes of the origin, until there is enough to send; `chunk` becomes what is left. True:
    /// there is more, call again.
    pub(super) fn write(&mut self, chunk: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        let rest = &mut self.rest;
        while self.decoder.step::<Fault>(chunk, &mut |piece| rest.take(piece, false, out))? {
            if out.len() >= ENOUGH {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rewriter, where it alone makes the output of the input from here on.
    pub(super) fn rewriter(&self) -> Option<&Rewriter> {
        let rest = &self.rest;
        let plain = self.decoder.is_identity() && rest.encoder.is_identity() && rest.transcoder.is_none();
        match &rest.stage {
            Stage::Rewriting(rewriter) if plain => Some(rewriter),
            _ => None,
        }
    }

    /// Goes on with a rewriter that stood elsewhere in such a pipeline.
    pub(super) fn resume(&mut self, rewriter: Rewriter) {
        self.rest.stage = Stage::Rewriting(Box::new(rewriter));
    }

    /// Says that bytes were given out: from here on `on_rewrite_failure` counts.
    pub(super) const fn mark_sent(&mut self) {
        self.rest.sent = true;
    }

    /// Makes what was written so far readable for the client.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.rest.encoder.flush(out).map_err(Fault::Encode)
    }

    /// Ends the body.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<Outcome, Fault> {
        self.decoder.finish()?;
        self.rest.take(&[], true, out)?;
        let outcome = match std::mem::replace(&mut self.rest.stage, Stage::Passing(Passing::NotHtml)) {
            Stage::Rewriting(rewriter) => {
                let untouched = rewriter.is_untouched();
                let mut rewritten = std::mem::take(&mut self.rest.rewritten);
                rewritten.clear();
                let ended = rewriter.end(&mut rewritten);
                self.rest.encoder.write(&rewritten, out).map_err(Fault::Encode)?;
                match ended {
                    Ok(_) if untouched => Outcome::NotHtml,
                    Ok(summary) => Outcome::Rewritten(summary),
                    Err(error) if self.rest.may_pass() => Outcome::Passed(Fault::Rewrite(error)),
                    Err(error) => return Err(Fault::Rewrite(error)),
                }
            }
            Stage::Passing(Passing::Failed(error)) => Outcome::Passed(Fault::Rewrite(error)),
            Stage::Passing(Passing::NotHtml) | Stage::Opening { .. } | Stage::Worker { .. } => {
                Outcome::NotHtml
            }
        };
        self.rest.encoder.finish(out).map_err(Fault::Encode)?;
        Ok(match (outcome, self.decoder.over()) {
            (Outcome::Rewritten(_), Some(bound)) => Outcome::Passed(Fault::Decode(bound)),
            (outcome, _) => outcome,
        })
    }
}

impl Rest {
    /// Takes decoded bytes. `last` says that no more come.
    fn take(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        let (start, sniff, xml) = match &mut self.stage {
            Stage::Opening { start, sniff, xml, .. } => (start, sniff, xml),
            Stage::Worker { .. } => return self.prefix(piece, last, out),
            _ => return self.transcode(piece, last, out),
        };
        start.extend_from_slice(piece);
        let sniffed = match (*sniff, *xml) {
            (true, _) => mime::sniff(start, last),
            (false, true) => Some(Sniffed::Xml),
            (false, false) => Some(Sniffed::Html),
        };
        *xml = sniffed == Some(Sniffed::Xml);
        match (sniffed, charset::open(start, last, self.head_charset, *xml)) {
            (Some(Sniffed::Other), _) => {
                let start = std::mem::take(start);
                self.stage = Stage::Passing(Passing::NotHtml);
                self.encoder.write(&start, out).map_err(Fault::Encode)
            }
            (None, _) | (_, Opening::More) => Ok(()),
            (_, Opening::Plain { bom, charset }) => self.open(bom, None, charset, last, out),
            (_, Opening::Transcode { from, bom }) => {
                self.open(bom, Some(from), Some(encoding_rs::UTF_8), last, out)
            }
        }
    }

    /// Puts our statements into a worker's script once its first bytes say where. Chromium reads one in UTF-16 as such,
    /// by its mark or its head, where the standard knows UTF-8 alone.
    fn prefix(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Stage::Worker { start, opened, ours } = &mut self.stage else { return Ok(()) };
        match &mut self.transcoder {
            Some(transcoder) => transcoder.write(piece, last, start),
            None => start.extend_from_slice(piece),
        }
        if !*opened {
            let head = self.head_charset.unwrap_or(encoding_rs::UTF_8);
            match charset::open(start, last, Some(head), false) {
                Opening::More => return Ok(()),
                Opening::Plain { .. } => {}
                Opening::Transcode { from, bom } => {
                    let bytes = std::mem::replace(start, charset::BOM.to_vec());
                    self.transcoder.insert(Transcoder::new(from)).write(&bytes[bom..], last, start);
                }
            }
            *opened = true;
        }
        let Some(at) = worker::place(start, last) else { return Ok(()) };
        let (start, ours) = (std::mem::take(start), std::mem::take(ours));
        self.stage = Stage::Passing(Passing::NotHtml);
        for part in [&start[..at], b";", ours.as_bytes(), &start[at..]] {
            self.encoder.write(part, out).map_err(Fault::Encode)?;
        }
        Ok(())
    }

    /// Leaves the opening: a byte order mark goes ahead of everything, the rewriter never sees it.
    fn open(
        &mut self,
        bom: usize,
        from: Option<&'static encoding_rs::Encoding>,
        charset: Option<&'static encoding_rs::Encoding>,
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let closed = Stage::Passing(Passing::NotHtml);
        let Stage::Opening { start, plan, xml, .. } = std::mem::replace(&mut self.stage, closed) else {
            return Ok(());
        };
        if bom > 0 || from.is_some() {
            self.encoder.write(charset::BOM, out).map_err(Fault::Encode)?;
        }
        self.transcoder = from.map(Transcoder::new);
        let rewriter = match xml {
            true => Rewriter::xml(*plan, charset, from.is_some()),
            false => Rewriter::in_charset(*plan, charset),
        };
        self.stage = Stage::Rewriting(Box::new(rewriter));
        self.transcode(&start[bom..], last, out)
    }

    fn transcode(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(transcoder) = &mut self.transcoder else { return self.rewrite(piece, out) };
        let mut utf8 = std::mem::take(&mut self.utf8);
        utf8.clear();
        transcoder.write(piece, last, &mut utf8);
        let result = self.rewrite(&utf8, out);
        self.utf8 = utf8;
        result
    }

    fn rewrite(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if piece.is_empty() {
            return Ok(());
        }
        let Stage::Rewriting(rewriter) = &mut self.stage else {
            return self.encoder.write(piece, out).map_err(Fault::Encode);
        };
        let result = if self.encoder.is_identity() {
            rewriter.write(piece, out)
        } else {
            self.rewritten.clear();
            let result = rewriter.write(piece, &mut self.rewritten);
            self.encoder.write(&self.rewritten, out).map_err(Fault::Encode)?;
            result
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if self.may_pass() => {
                self.stage = Stage::Passing(Passing::Failed(error));
                Ok(())
            }
            Err(error) => Err(Fault::Rewrite(error)),
        }
    }

    /// Whether the rest may pass when the rewriter gives up. For a visitor who is not opted out the
    /// rewriter has then given out every byte it was given. For an opted-out one it is the operator's
    /// choice, once bytes are out; what the rewriter held is lost.
    fn may_pass(&self) -> bool {
        !self.opted_out || (self.sent && self.on_failure == OnRewriteFailure::Pass)
    }
}

#[cfg(test)]
mod tests {
    use super::super::coding::Effort;
    use super::super::negotiate::Coding;
    use super::super::testing;
    use super::*;
    use encoding_rs::{Encoding, SHIFT_JIS};

    fn rewritten(head: Option<&'static Encoding>, xml: bool, page: &[u8], opted_out: bool) -> Vec<u8> {
        let recipe = Recipe {
            opted_out,
            kind: Kind::Document,
            sniff: false,
            xml,
            charset: head,
            from: Coding::Identity,
            to: Coding::Identity,
            bodiless: false,
        };
        let encoder = Encoder::new(Coding::Identity, Effort::default()).unwrap();
        let plan = testing::plan(opted_out);
        let mut pipeline =
            Pipeline::new(Decoder::identity(), encoder, &recipe, plan, OnRewriteFailure::Close);
        let mut out = Vec::new();
        for mut piece in page.chunks(7) {
            while pipeline.write(&mut piece, &mut out).unwrap() {}
        }
        assert!(matches!(pipeline.end(&mut out), Ok(Outcome::Rewritten(_))));
        out
    }

    /// Shift_JIS writes 表 with a backslash's byte: read as ASCII, it would hide the end of a text. The page keeps
    /// its charset, on which its forms, links and files rest.
    #[test]
    fn a_page_is_read_in_the_charset_that_its_head_or_its_first_bytes_name() {
        const STYLE: &[u8] = b"<style>p{content:\"\x95\x5c\";background:url(//dis.criteo.com/a)}</style>";
        const CLEAN: &[u8] = b"<style>p{content:\"\x95\x5c\";background:url(data:,)}</style>";
        let pages: [(_, _, &[u8]); 4] = [
            (Some(SHIFT_JIS), false, b"<html>"),
            (None, false, b"<meta charset=\"shift_jis\">"),
            (None, true, b"<?xml version=\"1.0\" encoding=\"Shift_JIS\"?>"),
            (Some(SHIFT_JIS), true, b""),
        ];
        for (head, xml, opening) in pages {
            let (before, behind): (&[u8], &[u8]) = match xml {
                true => (b"<svg xmlns='http://www.w3.org/2000/svg'>", b"</svg>"),
                false => (b"", b""),
            };
            let [page, clean] = [STYLE, CLEAN].map(|style| [opening, before, style, behind].concat());
            let out = rewritten(head, xml, &page, true);
            assert!(out.starts_with(&clean), "{}", String::from_utf8_lossy(&out));
            if !xml {
                assert!(rewritten(head, xml, &page, false).starts_with(&page), "nothing changes for others");
            }
        }
    }
}
