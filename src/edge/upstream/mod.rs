//! Step 7: the origin, which [`ask`] asks. One pool of connections for each core and origin; which origin is asked is
//! [`choose`]'s matter, and what all cores know of the origins stands in [`group`].
//!
//! An HTTP/1.1 connection (`http1`) is not a task of its own: whoever waits for its answer drives it, so a
//! request and its answer wake one task only. When the answer's body has ended the connection goes
//! back to the pool.

mod answer_error;
mod answer_frames;
pub mod ask;
mod attempt;
mod balance;
pub mod check;
pub mod choose;
pub mod connect;
pub mod group;
mod handshake;
mod health;
mod http1;
mod pool;
mod queue;
pub mod resolve;
mod shared;
pub mod transport;

pub use answer_error::AnswerError;
pub use attempt::{Attempt, Outgoing, Tail};
pub use choose::CoreGroup;
pub use connect::Connector;
pub use group::Group;
pub use health::Told;
pub use pool::{Answer, Pool, PoolLimits, Tunnel, Tunnelled, UpstreamBody};
