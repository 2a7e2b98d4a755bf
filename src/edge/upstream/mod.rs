//! Step 7: the origin. One pool of connections for each core and origin.
//!
//! An HTTP/1.1 connection is not a task of its own: whoever waits for its answer drives it, so a
//! request and its answer wake one task only. When the answer's body has ended the connection goes
//! back to the pool.

pub mod connect;
mod pool;
pub mod transport;

pub use connect::Connector;
pub use pool::{Answer, Attempt, Pool, PoolLimits, Tunnel, UpstreamBody};
