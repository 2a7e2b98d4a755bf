//! Content codings of a page: taken off on the way in, here; put on again by [`Encoder`] on the way out.
//!
//! Both sides are fed piece by piece and give what they have; what is read back never depends on how
//! the input was cut. A coded body that ends early, is corrupt or grows beyond its bounds is an error,
//! never silently short.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{self as zstd_raw, DParameter, InBuffer, Operation as _, OutBuffer};

pub use super::encoder::Encoder;
use super::negotiate::Coding;

/// Largest zstd window taken, as a power of two: 8 MiB (RFC 9659: what a browser must support).
const ZSTD_WINDOW_LOG: u32 = 23;
/// Decoded bytes that are always fine, whatever the ratio; small pages of one character compress well.
const RATIO_FREE: u64 = 1 << 20;
/// Bytes decoded or encoded in one step.
pub(super) const STEP: usize = 32 << 10;
/// zlib's full window, in both directions.
pub(super) const ZLIB_WINDOW_BITS: u8 = 15;

/// Why a coded body cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// The body ended before its coding did.
    #[error("the coded body ends early")]
    Truncated,
    /// The body is not what its `Content-Encoding` says.
    #[error("the body is not in the coding its head names")]
    Corrupt,
    /// It grows beyond `limits.decode_ratio`.
    #[error("the body grows beyond limits.decode_ratio")]
    Ratio,
    /// It asks for a window above 8 MiB.
    #[error("the body needs a decoding window above 8 MiB")]
    Window,
    /// The encoder failed.
    #[error("the encoder failed")]
    Encoder,
}

impl CodingError {
    /// Word for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Truncated => "coding-truncated",
            Self::Corrupt => "coding-corrupt",
            Self::Ratio => "coding-ratio",
            Self::Window => "coding-window",
            Self::Encoder => "coding-encoder",
        }
    }
}

type BrotliReader = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Reader {
    Identity,
    /// Next byte of input begins a gzip member, or nothing.
    GzipBetween,
    Gzip(Decompress),
    /// The first byte of a `deflate` body; two are needed to tell zlib's form from the raw one.
    DeflateStart(Option<u8>),
    Deflate(Decompress),
    Zstd {
        decoder: Box<zstd_raw::Decoder<'static>>,
        open: bool,
    },
    Brotli(Box<BrotliReader>),
    /// The coding is complete; bytes behind it are ignored, as browsers do.
    Complete,
}

/// Takes a content coding off, piece by piece.
pub struct Decoder {
    reader: Reader,
    buffer: Box<[u8]>,
    meter: Meter,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("meter", &self.meter).finish_non_exhaustive()
    }
}

/// Counts both sides and knows when a body grows too much.
#[derive(Debug)]
struct Meter {
    coded: u64,
    decoded: u64,
    ratio: u64,
}

impl Meter {
    fn grow(&mut self, produced: usize) -> Result<(), CodingError> {
        self.decoded += produced as u64;
        let most = RATIO_FREE.max(self.coded.saturating_mul(self.ratio));
        if self.decoded > most { Err(CodingError::Ratio) } else { Ok(()) }
    }
}

impl Decoder {
    /// A decoder for one body; `ratio` is `limits.decode_ratio`.
    ///
    /// # Errors
    /// When the zstd library cannot allocate.
    pub fn new(coding: Coding, ratio: u32) -> Result<Self, CodingError> {
        let reader = match coding {
            Coding::Identity => Reader::Identity,
            Coding::Gzip => Reader::GzipBetween,
            Coding::Deflate => Reader::DeflateStart(None),
            Coding::Zstd => {
                let mut decoder = zstd_raw::Decoder::new().map_err(|_| CodingError::Window)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
                    .map_err(|_| CodingError::Window)?;
                Reader::Zstd { decoder: Box::new(decoder), open: false }
            }
            // The strict form refuses "large window" streams (up to 1 GiB), which HTTP does not have.
            Coding::Brotli => Reader::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
        };
        let buffer = if coding == Coding::Identity { Box::default() } else { vec![0; STEP].into() };
        Ok(Self { reader, buffer, meter: Meter { coded: 0, decoded: 0, ratio: ratio.into() } })
    }

    /// Takes nothing off.
    #[must_use]
    pub fn identity() -> Self {
        let meter = Meter { coded: 0, decoded: 0, ratio: 0 };
        Self { reader: Reader::Identity, buffer: Box::default(), meter }
    }

    /// Decodes the next piece; `sink` gets what came out, in pieces of at most 32 KiB (a piece as it is
    /// when the coding is identity).
    ///
    /// # Errors
    /// The coding's, or the sink's own. Nothing may be written after one.
    pub fn write<E: From<CodingError>>(
        &mut self,
        mut chunk: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.meter.coded += chunk.len() as u64;
        loop {
            match &mut self.reader {
                Reader::Identity => return if chunk.is_empty() { Ok(()) } else { sink(chunk) },
                Reader::Complete => return Ok(()),
                Reader::GzipBetween => match chunk.first() {
                    None => return Ok(()),
                    // A member begins with 0x1f; other bytes behind a member are padding. A body whose
                    // first byte is another is no gzip at all.
                    Some(0x1f) => self.reader = Reader::Gzip(Decompress::new_gzip(ZLIB_WINDOW_BITS)),
                    Some(_) if self.meter.decoded == 0 => return Err(CodingError::Corrupt.into()),
                    Some(_) => self.reader = Reader::Complete,
                },
                Reader::DeflateStart(first) => match (*first, chunk.split_first()) {
                    (_, None) => return Ok(()),
                    (None, Some((&byte, rest))) => {
                        *first = Some(byte);
                        chunk = rest;
                    }
                    (Some(first), Some((&second, _))) => {
                        let mut inflate = Decompress::new(is_zlib_header(first, second));
                        inflate_step(&mut inflate, &[first], &mut self.buffer, &mut self.meter, sink)?;
                        self.reader = Reader::Deflate(inflate);
                    }
                },
                Reader::Gzip(inflate) => {
                    let (rest, ended) =
                        inflate_step(inflate, chunk, &mut self.buffer, &mut self.meter, sink)?;
                    chunk = rest;
                    if !ended {
                        return Ok(());
                    }
                    self.reader = Reader::GzipBetween;
                }
                Reader::Deflate(inflate) => {
                    let (_, ended) = inflate_step(inflate, chunk, &mut self.buffer, &mut self.meter, sink)?;
                    if ended {
                        self.reader = Reader::Complete;
                    }
                    return Ok(());
                }
                Reader::Zstd { decoder, open } => {
                    return zstd_step(decoder, open, chunk, &mut self.buffer, &mut self.meter, sink);
                }
                Reader::Brotli(state) => {
                    if brotli_step(state, chunk, &mut self.buffer, &mut self.meter, sink)? {
                        self.reader = Reader::Complete;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Says that no more input comes.
    ///
    /// # Errors
    /// [`CodingError::Truncated`] when the coding is not complete; a body of no bytes at all is.
    pub fn finish(&self) -> Result<(), CodingError> {
        let complete = match &self.reader {
            Reader::Identity | Reader::GzipBetween | Reader::Complete => true,
            Reader::Zstd { open, .. } => !open,
            Reader::DeflateStart(first) => first.is_none(),
            Reader::Gzip(_) | Reader::Deflate(_) => false,
            Reader::Brotli(_) => self.meter.coded == 0,
        };
        if complete { Ok(()) } else { Err(CodingError::Truncated) }
    }
}

/// Whether two bytes begin zlib's form of `deflate` (RFC 1950, 2.2); some servers send the raw form.
const fn is_zlib_header(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && ((first as u16) << 8 | second as u16).is_multiple_of(31)
}

/// Inflates until the input is used up or the stream ends; gives the unused input and whether it ended.
fn inflate_step<'a, E: From<CodingError>>(
    inflate: &mut Decompress,
    mut input: &'a [u8],
    buffer: &mut [u8],
    meter: &mut Meter,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(&'a [u8], bool), E> {
    loop {
        let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
        let status =
            inflate.decompress(input, buffer, FlushDecompress::None).map_err(|_| CodingError::Corrupt)?;
        let consumed = (inflate.total_in() - in_before) as usize;
        let produced = (inflate.total_out() - out_before) as usize;
        input = input.get(consumed..).unwrap_or_default();
        if produced > 0 {
            meter.grow(produced)?;
            sink(&buffer[..produced])?;
        }
        if status == Status::StreamEnd {
            return Ok((input, true));
        }
        if (consumed == 0 && produced == 0) || (input.is_empty() && produced < buffer.len()) {
            return Ok((input, false));
        }
    }
}

fn zstd_step<E: From<CodingError>>(
    decoder: &mut zstd_raw::Decoder<'static>,
    open: &mut bool,
    chunk: &[u8],
    buffer: &mut [u8],
    meter: &mut Meter,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = InBuffer::around(chunk);
    while input.pos() < chunk.len() || *open {
        let (before, mut output) = (input.pos(), OutBuffer::around(&mut *buffer));
        let hint = decoder.run(&mut input, &mut output).map_err(|error| zstd_error(&error))?;
        let produced = output.pos();
        // A hint of 0 says that a frame is complete and all its bytes are out.
        *open = hint != 0;
        if produced > 0 {
            meter.grow(produced)?;
            sink(&buffer[..produced])?;
        }
        let stuck = input.pos() == before && produced == 0;
        if stuck || (input.pos() == chunk.len() && produced < buffer.len()) {
            break;
        }
    }
    Ok(())
}

/// The library only words its errors; the window's is the one that speaks of memory.
fn zstd_error(error: &std::io::Error) -> CodingError {
    if error.to_string().contains("memory") { CodingError::Window } else { CodingError::Corrupt }
}

/// Gives whether the stream ended.
fn brotli_step<E: From<CodingError>>(
    state: &mut BrotliReader,
    chunk: &[u8],
    buffer: &mut [u8],
    meter: &mut Meter,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let (mut available_in, mut at, mut total) = (chunk.len(), 0, 0);
    loop {
        let (mut available_out, mut produced) = (buffer.len(), 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut at,
            chunk,
            &mut available_out,
            &mut produced,
            buffer,
            &mut total,
            state,
        );
        if produced > 0 {
            meter.grow(produced)?;
            sink(&buffer[..produced])?;
        }
        match result {
            BrotliResult::ResultSuccess => return Ok(true),
            BrotliResult::NeedsMoreInput => return Ok(false),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(CodingError::Corrupt.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODINGS: [Coding; 5] =
        [Coding::Identity, Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];

    /// Text with repeats and without, longer than every internal buffer.
    fn sample() -> Vec<u8> {
        let mut state = 1u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut text = b"<p>same again</p>".repeat(3000);
        text.extend((0..60_000).map(|_| noise()));
        text
    }

    fn encode(coding: Coding, pieces: &[&[u8]]) -> Vec<u8> {
        let mut encoder = Encoder::new(coding).unwrap();
        let mut out = Vec::new();
        for piece in pieces {
            encoder.write(piece, &mut out).unwrap();
            encoder.flush(&mut out).unwrap();
        }
        encoder.finish(&mut out).unwrap();
        out
    }

    fn decode<'a>(
        coding: Coding,
        ratio: u32,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CodingError> {
        let mut decoder = Decoder::new(coding, ratio)?;
        let mut out = Vec::new();
        for piece in pieces {
            decoder.write::<CodingError>(piece, &mut |bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn every_coding_reads_back_whole_in_bytes_and_in_any_pieces() {
        let text = sample();
        for coding in CODINGS {
            let coded = encode(coding, &[&text]);
            assert!(decode(coding, 100, [coded.as_slice()]) == Ok(text.clone()), "{coding:?} whole");
            assert!(decode(coding, 100, coded.chunks(1)) == Ok(text.clone()), "{coding:?} by bytes");
            for size in [2, 7, 1000, 4096, 33_333] {
                let flushed: Vec<&[u8]> = text.chunks(size.max(1000)).collect();
                let coded = encode(coding, &flushed);
                assert!(decode(coding, 100, coded.chunks(size)) == Ok(text.clone()), "{coding:?} by {size}");
            }
        }
    }

    /// Streamed pages stream: a flush makes everything written so far readable.
    #[test]
    fn a_flushed_piece_can_be_read_before_the_next_comes() {
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut decoder = Decoder::new(coding, 100).unwrap();
            let (mut coded, mut plain) = (Vec::new(), Vec::new());
            for piece in [&b"<html>"[..], b"<p>one</p>", b"x"] {
                encoder.write(piece, &mut coded).unwrap();
                encoder.flush(&mut coded).unwrap();
                plain.clear();
                decoder
                    .write::<CodingError>(&std::mem::take(&mut coded), &mut |bytes| {
                        plain.extend_from_slice(bytes);
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(plain, piece, "{coding:?}");
                encoder.flush(&mut coded).unwrap();
                assert!(coded.is_empty(), "{coding:?}: a flush without news costs nothing");
            }
        }
    }

    #[test]
    fn a_body_that_ends_early_is_an_error_at_every_cut() {
        let text = b"<p>hello</p>".repeat(20);
        for coding in CODINGS.into_iter().skip(1) {
            let coded = encode(coding, &[&text]);
            for cut in 1..coded.len() {
                let got = decode(coding, 100, [&coded[..cut]]);
                assert_eq!(got, Err(CodingError::Truncated), "{coding:?} cut at {cut} of {}", coded.len());
            }
            assert_eq!(decode(coding, 100, []), Ok(Vec::new()), "{coding:?}: no bytes are an empty body");
            assert_eq!(decode(coding, 100, [&encode(coding, &[])[..]]), Ok(Vec::new()), "{coding:?}");
        }
    }

    #[test]
    fn a_body_in_another_coding_than_its_head_says_is_an_error() {
        for coding in CODINGS.into_iter().skip(1) {
            let got = decode(coding, 100, [&b"<!doctype html><p>plain text, not coded at all</p>"[..]]);
            assert!(got.is_err(), "{coding:?}: {got:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_ratio() {
        let zeros = vec![0; 64 << 20];
        for coding in CODINGS.into_iter().skip(1) {
            let coded = encode(coding, &[&zeros]);
            let mut seen = 0;
            let mut decoder = Decoder::new(coding, 20).unwrap();
            let got = decoder.write::<CodingError>(&coded, &mut |bytes| {
                seen += bytes.len() as u64;
                Ok(())
            });
            assert_eq!(got, Err(CodingError::Ratio), "{coding:?}");
            assert!(seen <= RATIO_FREE.max(coded.len() as u64 * 20), "{coding:?}: {seen} bytes came out");
        }
    }

    /// RFC 9659: no browser must take a larger window than 8 MiB, and we do not.
    #[test]
    fn a_zstd_window_above_8_mib_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd_raw::CParameter::WindowLog(24)).unwrap();
        std::io::Write::write_all(&mut encoder, &vec![7; 100_000]).unwrap();
        let coded = encoder.finish().unwrap();
        assert_eq!(decode(Coding::Zstd, 10_000, [coded.as_slice()]), Err(CodingError::Window));
    }

    /// RFC 9110, 8.4.1.2: some servers send `deflate` without zlib's wrapping.
    #[test]
    fn deflate_is_read_in_its_raw_form_too() {
        let text = sample();
        let mut coded = Vec::with_capacity(text.len() * 2);
        let mut deflate = flate2::Compress::new(flate2::Compression::fast(), false);
        let status = deflate.compress_vec(&text, &mut coded, flate2::FlushCompress::Finish).unwrap();
        assert_eq!(status, Status::StreamEnd);
        assert!(decode(Coding::Deflate, 100, [coded.as_slice()]) == Ok(text.clone()));
        assert!(decode(Coding::Deflate, 100, coded.chunks(1)) == Ok(text));
    }

    /// RFC 1952, 2.2: a gzip file is a series of members; RFC 8878, 3: so are zstd frames.
    #[test]
    fn members_and_frames_in_a_row_are_one_body_and_padding_is_ignored() {
        for (coding, padding) in [(Coding::Gzip, &b"\0\0\0"[..]), (Coding::Zstd, b"")] {
            let mut coded = encode(coding, &[b"one"]);
            coded.extend(encode(coding, &[b" two"]));
            coded.extend_from_slice(padding);
            assert_eq!(decode(coding, 100, [coded.as_slice()]).unwrap(), b"one two", "{coding:?}");
            assert_eq!(decode(coding, 100, coded.chunks(1)).unwrap(), b"one two", "{coding:?} by bytes");
        }
    }
}
