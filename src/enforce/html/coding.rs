//! Content codings of a page: taken apart on the way in, put on again on the way out.
//!
//! Both sides are fed piece by piece and give what they have; the bytes that come out never depend on
//! how the input was cut. A coded body that ends early, is corrupt or grows beyond its bounds is an
//! error, never silently short.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, CompressorWriter};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io::Write as _;
use zstd::stream::raw::{self as zstd_raw, DParameter, InBuffer, Operation as _, OutBuffer};

use super::negotiate::Coding;

/// Largest zstd window taken, as a power of two: 8 MiB (RFC 9659: what a browser must support).
const ZSTD_WINDOW_LOG: u32 = 23;
/// Decoded bytes that are always fine, whatever the ratio; small pages of one character compress well.
const RATIO_FREE: u64 = 1 << 20;
/// Bytes decoded or encoded in one step.
const STEP: usize = 32 << 10;
/// zlib's full window, in both directions.
const ZLIB_WINDOW_BITS: u8 = 15;
/// Fast levels: re-encoding costs more than rewriting does.
const GZIP_LEVEL: u32 = 2;
const ZSTD_LEVEL: i32 = 1;
const BROTLI_LEVEL: u32 = 2;
/// 256 KiB: most pages fit, and the encoder's memory stays small.
const BROTLI_WINDOW_LOG: u32 = 18;

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
    first & 0x0f == 8 && first >> 4 <= 7 && ((first as u16) << 8 | second as u16) % 31 == 0
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

enum Writer {
    Identity,
    Zlib(Compress),
    Zstd(Box<zstd_raw::Encoder<'static>>),
    /// `None` once finished.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
}

/// Puts a content coding on, piece by piece.
///
/// [`Encoder::finish`] must be called: an encoder that is only dropped leaves a body that ends early.
pub struct Encoder {
    writer: Writer,
    buffer: Box<[u8]>,
    dirty: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("dirty", &self.dirty).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder for one body.
    ///
    /// # Errors
    /// When the zstd library cannot allocate.
    pub fn new(coding: Coding) -> Result<Self, CodingError> {
        let writer = match coding {
            Coding::Identity => Writer::Identity,
            Coding::Gzip => Writer::Zlib(Compress::new_gzip(Compression::new(GZIP_LEVEL), ZLIB_WINDOW_BITS)),
            // Always zlib's form: it is what the name means (RFC 9110, 8.4.1.2).
            Coding::Deflate => Writer::Zlib(Compress::new(Compression::new(GZIP_LEVEL), true)),
            Coding::Zstd => {
                Writer::Zstd(Box::new(zstd_raw::Encoder::new(ZSTD_LEVEL).map_err(|_| CodingError::Encoder)?))
            }
            Coding::Brotli => Writer::Brotli(Some(Box::new(CompressorWriter::new(
                Vec::new(),
                STEP,
                BROTLI_LEVEL,
                BROTLI_WINDOW_LOG,
            )))),
        };
        let buffer = if coding == Coding::Zstd { vec![0; STEP].into() } else { Box::default() };
        Ok(Self { writer, buffer, dirty: false })
    }

    /// Puts nothing on.
    #[must_use]
    pub fn identity() -> Self {
        Self { writer: Writer::Identity, buffer: Box::default(), dirty: false }
    }

    /// Whether bytes go out as they come.
    #[must_use]
    pub const fn is_identity(&self) -> bool {
        matches!(self.writer, Writer::Identity)
    }

    /// Encodes more bytes; what can be sent already is appended to `out`.
    ///
    /// # Errors
    /// [`CodingError::Encoder`]; nothing may be written after it.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        match &mut self.writer {
            Writer::Identity => out.extend_from_slice(bytes),
            Writer::Zlib(deflate) => zlib_step(deflate, bytes, out, FlushCompress::None)?,
            Writer::Zstd(encoder) => {
                let mut input = InBuffer::around(bytes);
                while input.pos() < bytes.len() {
                    let mut output = OutBuffer::around(&mut *self.buffer);
                    encoder.run(&mut input, &mut output).map_err(|_| CodingError::Encoder)?;
                    out.extend_from_slice(output.as_slice());
                }
            }
            Writer::Brotli(Some(writer)) => {
                writer.write_all(bytes).map_err(|_| CodingError::Encoder)?;
                out.append(writer.get_mut());
            }
            Writer::Brotli(None) => return Err(CodingError::Encoder),
        }
        Ok(())
    }

    /// Makes everything written so far readable for the client. Costs a few bytes; nothing when nothing
    /// was written since.
    ///
    /// # Errors
    /// As [`Encoder::write`].
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        match &mut self.writer {
            Writer::Identity => {}
            Writer::Zlib(deflate) => zlib_step(deflate, &[], out, FlushCompress::Sync)?,
            Writer::Zstd(encoder) => loop {
                let mut output = OutBuffer::around(&mut *self.buffer);
                let left = encoder.flush(&mut output).map_err(|_| CodingError::Encoder)?;
                out.extend_from_slice(output.as_slice());
                if left == 0 {
                    break;
                }
            },
            Writer::Brotli(Some(writer)) => {
                writer.flush().map_err(|_| CodingError::Encoder)?;
                out.append(writer.get_mut());
            }
            Writer::Brotli(None) => return Err(CodingError::Encoder),
        }
        Ok(())
    }

    /// Ends the coding. A body of no bytes becomes a valid, empty coded body.
    ///
    /// # Errors
    /// As [`Encoder::write`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        match &mut self.writer {
            Writer::Identity => {}
            Writer::Zlib(deflate) => zlib_step(deflate, &[], out, FlushCompress::Finish)?,
            Writer::Zstd(encoder) => loop {
                let mut output = OutBuffer::around(&mut *self.buffer);
                let left = encoder.finish(&mut output, false).map_err(|_| CodingError::Encoder)?;
                out.extend_from_slice(output.as_slice());
                if left == 0 {
                    break;
                }
            },
            Writer::Brotli(writer) => {
                let Some(writer) = writer.take() else { return Err(CodingError::Encoder) };
                out.append(&mut writer.into_inner());
            }
        }
        Ok(())
    }
}

/// Deflates until the input is used up and the flush asked for is done.
fn zlib_step(
    deflate: &mut Compress,
    mut input: &[u8],
    out: &mut Vec<u8>,
    flush: FlushCompress,
) -> Result<(), CodingError> {
    loop {
        // `compress_vec` fills spare capacity only, and zlib wants more than 6 bytes to end a flush.
        out.reserve((input.len() / 2).max(256));
        let spare = out.capacity() - out.len();
        let (in_before, out_before) = (deflate.total_in(), deflate.total_out());
        let status = deflate.compress_vec(input, out, flush).map_err(|_| CodingError::Encoder)?;
        let consumed = (deflate.total_in() - in_before) as usize;
        let produced = (deflate.total_out() - out_before) as usize;
        input = input.get(consumed..).unwrap_or_default();
        if status == Status::StreamEnd {
            return Ok(());
        }
        // Room left over means that zlib had no more to give.
        if input.is_empty() && produced < spare && flush != FlushCompress::Finish {
            return Ok(());
        }
        if consumed == 0 && produced == 0 && spare > 0 {
            return if flush == FlushCompress::Finish { Err(CodingError::Encoder) } else { Ok(()) };
        }
    }
}
