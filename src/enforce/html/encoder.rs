//! Puts a content coding on.

use std::io::Write as _;

use brotli::CompressorWriter;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::{self as zstd_raw, InBuffer, Operation as _, OutBuffer};

use super::coding::{CodingError, STEP, ZLIB_WINDOW_BITS, return_buffer, step_buffer};
use super::negotiate::Coding;
use super::reuse::ContextPool;

/// How much work an encoder does for how few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Coding costs more than rewriting does, so a busy core does little of it.
    #[default]
    Fast,
    /// For a core that has the time.
    Better,
    /// For what is coded once and sent often, away from its core: takes some megabytes.
    Best,
}

struct Levels {
    gzip: u32,
    zstd: i32,
    brotli: u32,
    brotli_window_log: u32,
}

impl Effort {
    /// Windows of 256 KiB, where somebody waits: most pages fit, and the encoder's memory stays small. All are within
    /// what browsers take (RFC 9659).
    const fn levels(self) -> Levels {
        match self {
            Self::Fast => Levels { gzip: 2, zstd: 1, brotli: 2, brotli_window_log: 18 },
            Self::Better => Levels { gzip: 5, zstd: 3, brotli: 4, brotli_window_log: 18 },
            Self::Best => Levels { gzip: 9, zstd: 12, brotli: 9, brotli_window_log: 20 },
        }
    }
}

thread_local! {
    static WRITERS: ContextPool<(Coding, Effort), Writer> = const { ContextPool::new() };
}

enum Writer {
    Identity,
    Zlib(Compress),
    Zstd(Box<zstd_raw::Encoder<'static>>),
    /// `None` once finished.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
}

impl Writer {
    fn new(coding: Coding, levels: &Levels) -> Result<Self, CodingError> {
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => Self::Zlib(Compress::new_gzip(Compression::new(levels.gzip), ZLIB_WINDOW_BITS)),
            // Always zlib's form: it is what the name means (RFC 9110, 8.4.1.2).
            Coding::Deflate => Self::Zlib(Compress::new(Compression::new(levels.gzip), true)),
            Coding::Zstd => {
                Self::Zstd(Box::new(zstd_raw::Encoder::new(levels.zstd).map_err(|_| CodingError::Encoder)?))
            }
            Coding::Brotli => Self::Brotli(Some(Box::new(CompressorWriter::new(
                Vec::new(),
                STEP,
                levels.brotli,
                levels.brotli_window_log,
            )))),
        })
    }

    /// One that has coded a body, or a part of one, and can code another.
    fn ready_again(mut self) -> Option<Self> {
        match &mut self {
            Self::Zlib(deflate) => deflate.reset(),
            Self::Zstd(encoder) => encoder.reinit().ok()?,
            Self::Identity | Self::Brotli(_) => return None,
        }
        Some(self)
    }
}

/// Puts a content coding on, piece by piece.
///
/// [`Encoder::finish`] must be called: an encoder that is only dropped leaves a body that ends early.
pub struct Encoder {
    writer: Writer,
    made_for: (Coding, Effort),
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
    pub fn new(coding: Coding, effort: Effort) -> Result<Self, CodingError> {
        let made_for = (coding, effort);
        let writer = match WRITERS.with(|pool| pool.take(&made_for)).and_then(Writer::ready_again) {
            Some(writer) => writer,
            None => Writer::new(coding, &effort.levels())?,
        };
        let buffer = if coding == Coding::Zstd { step_buffer() } else { Box::default() };
        Ok(Self { writer, made_for, buffer, dirty: false })
    }

    /// Puts nothing on.
    #[must_use]
    pub fn identity() -> Self {
        let made_for = (Coding::Identity, Effort::Fast);
        Self { writer: Writer::Identity, made_for, buffer: Box::default(), dirty: false }
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

impl Drop for Encoder {
    /// Leaves what is worth it to the thread's next body.
    fn drop(&mut self) {
        return_buffer(std::mem::take(&mut self.buffer));
        let reusable = matches!(self.writer, Writer::Zlib(_) | Writer::Zstd(_));
        if reusable && self.made_for.1 != Effort::Best {
            let writer = std::mem::replace(&mut self.writer, Writer::Identity);
            // A thread that ends has no pool any more.
            let _ = WRITERS.try_with(|pool| pool.keep(self.made_for, writer));
        }
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
