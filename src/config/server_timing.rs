//! Which answers carry `Server-Timing`: `"off"`, `"on"`, or a share of them.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::units::Complaint;
use super::written::complain;

/// What a share is counted in.
const WHOLE: u32 = 1_000_000;

/// What to write.
const NEXT: &str = "write \"off\", \"on\", or a share of the answers from 0 to 1, like 0.01";

/// Share of the answers that carry `Server-Timing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerTiming {
    /// Millionths.
    share: u32,
}

impl ServerTiming {
    /// Every answer.
    pub const ON: Self = Self { share: WHOLE };

    /// A share from 0 to 1.
    ///
    /// # Errors
    /// Another number.
    pub fn sampled(share: f64) -> Result<Self, Complaint> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Complaint::new(format!("{share} is no share"), NEXT));
        }
        // Checked above: it fits.
        Ok(Self { share: (share * f64::from(WHOLE)).round() as u32 })
    }

    fn parse(text: &str) -> Result<Self, Complaint> {
        match text {
            "off" => Ok(Self::default()),
            "on" => Ok(Self::ON),
            // The environment has no numbers.
            _ => match text.parse() {
                Ok(share) => Self::sampled(share),
                Err(_) => Err(Complaint::new(format!("\"{text}\" is neither a word nor a share"), NEXT)),
            },
        }
    }

    /// Whether an answer is one of the share; `point` is anywhere in its range with equal chance.
    #[must_use]
    pub const fn takes(self, point: u32) -> bool {
        ((point as u64 * WHOLE as u64) >> 32) < self.share as u64
    }
}

impl<'de> Deserialize<'de> for ServerTiming {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = ServerTiming;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\", \"on\" or a share like 0.01")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ServerTiming, E> {
                ServerTiming::parse(text).map_err(complain)
            }

            fn visit_f64<E: de::Error>(self, share: f64) -> Result<ServerTiming, E> {
                ServerTiming::sampled(share).map_err(complain)
            }

            fn visit_u64<E: de::Error>(self, share: u64) -> Result<ServerTiming, E> {
                self.visit_f64(share as f64)
            }

            fn visit_i64<E: de::Error>(self, share: i64) -> Result<ServerTiming, E> {
                self.visit_f64(share as f64)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl Serialize for ServerTiming {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.share {
            0 => serializer.serialize_str("off"),
            WHOLE => serializer.serialize_str("on"),
            share => serializer.serialize_f64(f64::from(share) / f64::from(WHOLE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_shares_are_read_and_nothing_else() {
        assert_eq!(ServerTiming::parse("off"), Ok(ServerTiming::default()));
        assert_eq!(ServerTiming::parse("on"), Ok(ServerTiming::ON));
        assert_eq!(ServerTiming::parse("0.25"), Ok(ServerTiming { share: 250_000 }));
        for bad in ["", "yes", "1.5", "-0.1", "NaN", "1%"] {
            assert!(ServerTiming::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_takes_its_part_of_all_points() {
        let points = (0..1_000u32).map(|i| i * (u32::MAX / 1_000) + 1_000);
        let taken = |timing: ServerTiming| points.clone().filter(|point| timing.takes(*point)).count();
        assert_eq!(taken(ServerTiming::default()), 0);
        assert_eq!(taken(ServerTiming::ON), 1_000);
        assert_eq!(taken(ServerTiming::sampled(0.25).unwrap()), 250);
    }
}
