//! Whole bodies put into a coding, and taken out of it.

use optgate::enforce::html::coding::{Bounds, CodingError, Decoder, Effort, Encoder};
use optgate::enforce::html::negotiate::Coding;

/// A text in a coding.
pub fn encoded(coding: Coding, text: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(coding, Effort::Fast).unwrap(), Vec::new());
    encoder.write(text, &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    out
}

/// A whole body out of its coding.
pub fn decoded(coding: Coding, bytes: &[u8]) -> Result<Vec<u8>, CodingError> {
    let (mut decoder, mut out) = (Decoder::new(coding, Bounds::ratio(1000))?, Vec::new());
    decoder.write::<CodingError>(bytes, &mut |piece| {
        out.extend_from_slice(piece);
        Ok(())
    })?;
    decoder.finish()?;
    Ok(out)
}
