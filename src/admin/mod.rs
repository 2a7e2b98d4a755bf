//! The admin listener: `/livez`, `/readyz`, `/metrics`, `/api/summary`, `/api/records/{reference}`, the kill switch.
//!
//! SKELETON
