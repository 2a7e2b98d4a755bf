//! Content codings of a page: taken off on the way in, here; put on again by [`Encoder`] on the way out.
//!
//! Both sides are fed piece by piece and give what they have; what is read back never depends on how
//! the input was cut. A coded body that ends early, is corrupt or grows beyond its bounds is an error,
//! never silently short.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{self as zstd_raw, DParameter, InBuffer, Operation as _, OutBuffer};

pub use super::encoder::{Effort, Encoder};
use super::negotiate::Coding;
use super::reuse::ContextPool;

/// Largest zstd window taken, as a power of two: 8 MiB (RFC 9659: what a browser must support).
const ZSTD_WINDOW_LOG: u32 = 23;
/// Largest brotli window taken, as a power of two; the format has one above it.
const BROTLI_WINDOW_LOG: u8 = 23;
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
    /// It grows beyond `limits.decoded_page`.
    #[error("the body grows beyond limits.decoded_page")]
    Size,
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
            Self::Size => "coding-size",
            Self::Window => "coding-window",
            Self::Encoder => "coding-encoder",
        }
    }
}

/// How far a body may grow when it is decoded.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// As a multiple of its coded size; the first MiB is free.
    pub ratio: u32,
    /// Bytes in all.
    pub bytes: u64,
    /// A body that grows further is an error; else it is only noted.
    pub strict: bool,
}

impl Bounds {
    /// A ratio alone.
    #[must_use]
    pub const fn ratio(ratio: u32) -> Self {
        Self { ratio, bytes: u64::MAX, strict: true }
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
    /// The first byte, which tells the window, has not come.
    BrotliStart,
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
    bounds: Bounds,
    /// The bound that a body went beyond, when that is no error.
    over: Option<CodingError>,
}

impl Meter {
    fn grow(&mut self, produced: usize) -> Result<(), CodingError> {
        self.decoded += produced as u64;
        let most = RATIO_FREE.max(self.coded.saturating_mul(self.bounds.ratio.into()));
        let error = match () {
            () if self.decoded > self.bounds.bytes => CodingError::Size,
            () if self.decoded > most => CodingError::Ratio,
            () => return Ok(()),
        };
        if self.bounds.strict {
            return Err(error);
        }
        self.over.get_or_insert(error);
        Ok(())
    }
}

impl Decoder {
    /// A decoder for one body.
    ///
    /// # Errors
    /// When the zstd library cannot allocate.
    pub fn new(coding: Coding, bounds: Bounds) -> Result<Self, CodingError> {
        let reader = match coding {
            Coding::Identity => Reader::Identity,
            Coding::Gzip => Reader::GzipBetween,
            Coding::Deflate => Reader::DeflateStart(None),
            Coding::Zstd => Reader::Zstd { decoder: zstd_decoder()?, open: false },
            Coding::Brotli => Reader::BrotliStart,
        };
        let buffer = if coding == Coding::Identity { Box::default() } else { step_buffer() };
        Ok(Self { reader, buffer, meter: Meter { coded: 0, decoded: 0, bounds, over: None } })
    }

    /// Whether it takes nothing off.
    pub(super) const fn is_identity(&self) -> bool {
        matches!(self.reader, Reader::Identity)
    }

    /// Takes nothing off.
    #[must_use]
    pub fn identity() -> Self {
        let meter = Meter { coded: 0, decoded: 0, bounds: Bounds::ratio(1), over: None };
        Self { reader: Reader::Identity, buffer: Box::default(), meter }
    }

    /// Decodes the next piece whole; `sink` gets what came out, in pieces of at most 32 KiB.
    ///
    /// # Errors
    /// The coding's, or the sink's own. Nothing may be written after one.
    pub fn write<E: From<CodingError>>(
        &mut self,
        mut chunk: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.step(&mut chunk, sink)? {}
        Ok(())
    }

    /// Decodes a part of the next piece, so that few bytes that mean many do not come all at once: `sink` is
    /// called once at most, and `chunk` becomes what is left. True: there is more, call again.
    ///
    /// # Errors
    /// As [`Decoder::write`].
    pub fn step<E: From<CodingError>>(
        &mut self,
        chunk: &mut &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let before = chunk.len();
        let (produced, more) = self.decode(chunk)?;
        self.meter.coded += (before - chunk.len()) as u64;
        match produced {
            Produced::Nothing => {}
            Produced::Input(bytes) => sink(bytes)?,
            Produced::Buffer(length) => {
                self.meter.grow(length)?;
                sink(&self.buffer[..length])?;
            }
        }
        Ok(more)
    }

    /// The bound that the body went beyond, where that is no error.
    #[must_use]
    pub const fn over(&self) -> Option<CodingError> {
        self.meter.over
    }

    /// One step: takes what it used off `chunk`, and says whether another can give more.
    fn decode<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<(Produced<'a>, bool), CodingError> {
        match &mut self.reader {
            Reader::Identity => {
                let (piece, rest) = chunk.split_at(chunk.len().min(STEP));
                *chunk = rest;
                let produced = if piece.is_empty() { Produced::Nothing } else { Produced::Input(piece) };
                Ok((produced, !rest.is_empty()))
            }
            Reader::Complete => {
                *chunk = &[];
                Ok((Produced::Nothing, false))
            }
            Reader::GzipBetween => {
                let Some(first) = chunk.first() else { return Ok((Produced::Nothing, false)) };
                // A member begins with 0x1f; other bytes behind a member are padding. A body whose first byte
                // is another is no gzip at all.
                self.reader = match first {
                    0x1f => Reader::Gzip(Decompress::new_gzip(ZLIB_WINDOW_BITS)),
                    _ if self.meter.decoded == 0 => return Err(CodingError::Corrupt),
                    _ => Reader::Complete,
                };
                Ok((Produced::Nothing, true))
            }
            Reader::DeflateStart(first) => {
                let Some((&byte, rest)) = chunk.split_first() else { return Ok((Produced::Nothing, false)) };
                let Some(first) = *first else {
                    *first = Some(byte);
                    *chunk = rest;
                    return Ok((Produced::Nothing, true));
                };
                let mut inflate = Decompress::new(is_zlib_header(first, byte));
                let (produced, _, _) = inflate_step(&mut inflate, &mut &[first][..], &mut self.buffer)?;
                self.reader = Reader::Deflate(inflate);
                Ok((Produced::Buffer(produced), true))
            }
            Reader::Gzip(inflate) => {
                let (produced, more, ended) = inflate_step(inflate, chunk, &mut self.buffer)?;
                if ended {
                    self.reader = Reader::GzipBetween;
                }
                Ok((Produced::Buffer(produced), more || ended))
            }
            Reader::Deflate(inflate) => {
                let (produced, more, ended) = inflate_step(inflate, chunk, &mut self.buffer)?;
                if ended {
                    self.reader = Reader::Complete;
                }
                Ok((Produced::Buffer(produced), more || ended))
            }
            Reader::Zstd { decoder, open } => {
                let (produced, more) = zstd_step(decoder, open, chunk, &mut self.buffer)?;
                Ok((Produced::Buffer(produced), more))
            }
            Reader::BrotliStart => {
                let Some(first) = chunk.first() else { return Ok((Produced::Nothing, false)) };
                if brotli_window_log(*first) > BROTLI_WINDOW_LOG {
                    return Err(CodingError::Window);
                }
                // The strict form refuses "large window" streams (up to 1 GiB), which HTTP does not have.
                self.reader = Reader::Brotli(Box::new(BrotliState::new_strict(
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                    StandardAlloc::default(),
                )));
                Ok((Produced::Nothing, true))
            }
            Reader::Brotli(state) => {
                let (produced, more, ended) = brotli_step(state, chunk, &mut self.buffer)?;
                if ended {
                    self.reader = Reader::Complete;
                }
                Ok((Produced::Buffer(produced), more || ended))
            }
        }
    }

    /// Says that no more input comes.
    ///
    /// # Errors
    /// [`CodingError::Truncated`] when the coding is not complete; a body of no bytes at all is.
    pub fn finish(&self) -> Result<(), CodingError> {
        let complete = match &self.reader {
            Reader::Identity | Reader::GzipBetween | Reader::BrotliStart | Reader::Complete => true,
            Reader::Zstd { open, .. } => !open,
            Reader::DeflateStart(first) => first.is_none(),
            Reader::Gzip(_) | Reader::Deflate(_) | Reader::Brotli(_) => false,
        };
        if complete { Ok(()) } else { Err(CodingError::Truncated) }
    }
}

thread_local! {
    static ZSTD: ContextPool<(), Box<zstd_raw::Decoder<'static>>> = const { ContextPool::new() };
    static BUFFERS: ContextPool<(), Box<[u8]>> = const { ContextPool::new() };
}

impl Drop for Decoder {
    /// Leaves what is worth it to the thread's next body. The library's gzip decoders cannot be used again.
    fn drop(&mut self) {
        return_buffer(std::mem::take(&mut self.buffer));
        if let Reader::Zstd { decoder, .. } = std::mem::replace(&mut self.reader, Reader::Complete) {
            let _ = ZSTD.try_with(|pool| pool.keep((), decoder));
        }
    }
}

fn zstd_decoder() -> Result<Box<zstd_raw::Decoder<'static>>, CodingError> {
    if let Some(mut decoder) = ZSTD.with(|pool| pool.take(&()))
        && decoder.reinit().is_ok()
    {
        return Ok(decoder);
    }
    let mut decoder = zstd_raw::Decoder::new().map_err(|_| CodingError::Window)?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(|_| CodingError::Window)?;
    Ok(Box::new(decoder))
}

/// Room for one step. What others left in it is never read: a step gives out what it wrote.
pub(super) fn step_buffer() -> Box<[u8]> {
    BUFFERS.with(|pool| pool.take(&())).unwrap_or_else(|| vec![0; STEP].into())
}

/// Keeps it for the next; an empty one is none.
pub(super) fn return_buffer(buffer: Box<[u8]>) {
    if buffer.len() == STEP {
        // A thread that ends has no pool any more.
        let _ = BUFFERS.try_with(|pool| pool.keep((), buffer));
    }
}

/// Whether two bytes begin zlib's form of `deflate` (RFC 1950, 2.2); some servers send the raw form.
const fn is_zlib_header(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && ((first as u16) << 8 | second as u16).is_multiple_of(31)
}

/// What one step gave.
enum Produced<'a> {
    Nothing,
    /// Bytes of the input as they are.
    Input(&'a [u8]),
    /// So many bytes in the buffer; perhaps none.
    Buffer(usize),
}

/// Fills the buffer once; gives how many bytes came, whether more can, and whether the stream ended.
fn inflate_step(
    inflate: &mut Decompress,
    input: &mut &[u8],
    buffer: &mut [u8],
) -> Result<(usize, bool, bool), CodingError> {
    let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
    let status =
        inflate.decompress(input, buffer, FlushDecompress::None).map_err(|_| CodingError::Corrupt)?;
    let consumed = (inflate.total_in() - in_before) as usize;
    let produced = (inflate.total_out() - out_before) as usize;
    *input = input.get(consumed..).unwrap_or_default();
    if status == Status::StreamEnd {
        return Ok((produced, false, true));
    }
    let stuck = consumed == 0 && produced == 0;
    Ok((produced, !stuck && (!input.is_empty() || produced == buffer.len()), false))
}

/// As [`inflate_step`]; a frame that ended may be followed by another.
fn zstd_step(
    decoder: &mut zstd_raw::Decoder<'static>,
    open: &mut bool,
    chunk: &mut &[u8],
    buffer: &mut [u8],
) -> Result<(usize, bool), CodingError> {
    if chunk.is_empty() && !*open {
        return Ok((0, false));
    }
    let (mut input, mut output) = (InBuffer::around(chunk), OutBuffer::around(&mut *buffer));
    let hint = decoder.run(&mut input, &mut output).map_err(|error| zstd_error(&error))?;
    let (consumed, produced) = (input.pos(), output.pos());
    // A hint of 0 says that a frame is complete and all its bytes are out.
    *open = hint != 0;
    *chunk = &chunk[consumed..];
    let stuck = consumed == 0 && produced == 0;
    Ok((produced, !stuck && (!chunk.is_empty() || produced == buffer.len())))
}

/// The library only words its errors; the window's is the one that speaks of memory.
fn zstd_error(error: &std::io::Error) -> CodingError {
    if error.to_string().contains("memory") { CodingError::Window } else { CodingError::Corrupt }
}

/// As [`inflate_step`].
fn brotli_step(
    state: &mut BrotliReader,
    chunk: &mut &[u8],
    buffer: &mut [u8],
) -> Result<(usize, bool, bool), CodingError> {
    let (mut available_in, mut at, mut total) = (chunk.len(), 0, 0);
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
    *chunk = &chunk[at..];
    match result {
        BrotliResult::ResultSuccess => Ok((produced, false, true)),
        BrotliResult::NeedsMoreInput => Ok((produced, false, false)),
        BrotliResult::NeedsMoreOutput => Ok((produced, true, false)),
        BrotliResult::ResultFailure => Err(CodingError::Corrupt),
    }
}

/// The window a brotli stream's first byte asks for, as a power of two (RFC 7932, 9.1). One value is
/// another format's, which the decoder refuses.
const fn brotli_window_log(first: u8) -> u8 {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, _, _) => 16,
        (_, 0, 0) => 17,
        (_, 0, short) => 8 + short,
        (_, long, _) => 17 + long,
    }
}

#[cfg(test)]
pub(super) mod tests {
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

    pub fn encode(coding: Coding, pieces: &[&[u8]]) -> Vec<u8> {
        let mut encoder = Encoder::new(coding, Effort::Fast).unwrap();
        let mut out = Vec::new();
        for piece in pieces {
            encoder.write(piece, &mut out).unwrap();
            encoder.flush(&mut out).unwrap();
        }
        encoder.finish(&mut out).unwrap();
        out
    }

    pub fn decode<'a>(
        coding: Coding,
        ratio: u32,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CodingError> {
        let mut decoder = Decoder::new(coding, Bounds::ratio(ratio))?;
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
            let mut encoder = Encoder::new(coding, Effort::Fast).unwrap();
            let mut decoder = Decoder::new(coding, Bounds::ratio(100)).unwrap();
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
            let mut decoder = Decoder::new(coding, Bounds::ratio(20)).unwrap();
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

    /// RFC 7932, 9.1: the largest window of plain brotli is above what a browser must take of zstd.
    #[test]
    fn a_brotli_window_above_8_mib_is_refused() {
        for (window, wanted) in [(24, Err(CodingError::Window)), (22, Ok(())), (16, Ok(())), (10, Ok(()))] {
            let mut coded = Vec::new();
            let mut writer = brotli::CompressorWriter::new(&mut coded, 4096, 5, window);
            std::io::Write::write_all(&mut writer, &sample()).unwrap();
            drop(writer);
            assert_eq!(u32::from(brotli_window_log(coded[0])), window);
            assert_eq!(decode(Coding::Brotli, 100, coded.chunks(100)).map(drop), wanted, "{window}");
        }
    }

    /// Memory stays small however much a few bytes mean: one step gives one buffer.
    #[test]
    fn a_bomb_comes_out_in_steps_and_is_stopped_at_its_size() {
        for coding in CODINGS.into_iter().skip(1) {
            let coded = encode(coding, &[&vec![0; 8 << 20]]);
            let bounds = Bounds { ratio: u32::MAX, bytes: 4 << 20, strict: true };
            let (mut decoder, mut rest, mut seen) = (Decoder::new(coding, bounds).unwrap(), &coded[..], 0);
            let error = loop {
                let mut largest = 0;
                let more = decoder.step::<CodingError>(&mut rest, &mut |bytes| {
                    largest = bytes.len();
                    seen += bytes.len();
                    Ok(())
                });
                assert!(largest <= STEP, "{coding:?}: {largest}");
                match more {
                    Ok(more) => assert!(more, "{coding:?} ended"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, CodingError::Size, "{coding:?}");
            assert!(seen <= 4 << 20, "{coding:?}: {seen}");
            let mut lax = Decoder::new(coding, Bounds { strict: false, ..bounds }).unwrap();
            lax.write::<CodingError>(&coded, &mut |_| Ok(())).unwrap();
            assert_eq!((lax.finish(), lax.over()), (Ok(()), Some(CodingError::Size)), "{coding:?}");
        }
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
