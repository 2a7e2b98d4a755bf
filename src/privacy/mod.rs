//! The judgement: what a visitor has said, and what follows from it.
//!
//! Pure: no I/O, no clock, no server types. Time is an argument.

pub mod cookie;
pub mod decision;
pub mod gpp;
pub mod keys;
pub mod marks;
pub mod signal;
pub mod subject;
pub mod usp;

pub use cookie::OwnCookie;
pub use decision::{Basis, Decision, Mode, decide};
pub use keys::Keys;
pub use signal::{Signals, Standing};
pub use subject::{Aliases, Mark, Named, Subject};
