//! What a decision does to a message: toward the origin, the response head, the document.
//!
//! Pure but for `html::body`: no tokio, sockets, files or clock; time is an argument.

mod cleared;
pub mod collectors;
pub mod cookies;
pub mod csp;
pub mod fields;
pub mod guard;
pub mod html;
pub mod interim;
pub mod keeper;
pub mod names;
mod permissions;
pub mod references;
pub mod request;
pub mod response;
pub mod signals;
pub mod told;
pub mod validators;
