//! Written values with a unit or a shape of their own: durations, sizes, addresses, networks, dates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// Why a written value cannot be used, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Why.
    pub why: String,
    /// What to write.
    pub next: String,
}

impl Complaint {
    /// A complaint of two sentences.
    pub fn new(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into() }
    }
}

/// Longest duration accepted, so that adding it to a clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// What to write where a duration is wanted.
pub const DURATION_HINT: &str = "write a whole number with its unit: \"250ms\", \"30s\", \"5m\" or \"1h\"";

/// What to write where a size is wanted.
pub const SIZE_HINT: &str = "write a whole number with its unit: \"512B\", \"64KiB\", \"1MiB\" or \"10MB\"";

/// Reads `"30s"`, `"250ms"`, `"5m"`, `"1h"`, `"7d"`.
///
/// # Errors
/// No unit, an unknown unit, no whole number, or more than 366 days.
pub fn parse_duration(text: &str) -> Result<Duration, Complaint> {
    let (number, unit) = split(text, DURATION_HINT)?;
    let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(Complaint::new(format!("`{unit}` is no unit of time"), DURATION_HINT));
    };
    number
        .checked_mul(*factor)
        .map(Duration::from_millis)
        .filter(|d| *d <= LONGEST)
        .ok_or_else(|| Complaint::new(format!("{text} is longer than 366 days"), "write a shorter duration"))
}

/// What to write where a number of days is wanted.
pub const DAYS_HINT: &str = "write a whole number of days with its unit: \"731d\"";

/// Reads `"731d"`: how long something is kept, which may be longer than any clock of ours waits.
///
/// # Errors
/// Another unit, no whole number, none at all, or more than a hundred years.
pub fn parse_days(text: &str) -> Result<Duration, Complaint> {
    match split(text, DAYS_HINT)? {
        (days @ 1..=36_525, "d") => Ok(Duration::from_secs(days * 86_400)),
        (_, "d") => Err(Complaint::new(format!("{text} is not between 1 and 36525 days"), DAYS_HINT)),
        (_, unit) => Err(Complaint::new(format!("`{unit}` is not days"), DAYS_HINT)),
    }
}

/// Writes a duration in the largest unit that holds it whole.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = DURATION_UNITS[..4]
        .iter()
        .rev()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(u128::from(*factor)))
        .unwrap_or(&("s", 1_000));
    format!("{}{unit}", millis / u128::from(*factor))
}

/// Reads `"64KiB"`, `"1MiB"`, `"10MB"`, as bytes.
///
/// # Errors
/// No unit, an unknown unit, no whole number, or more than 64 bits.
pub fn parse_size(text: &str) -> Result<u64, Complaint> {
    let (number, unit) = split(text, SIZE_HINT)?;
    // Both spellings of the decimal thousand are in use.
    let unit = if unit == "KB" { "kB" } else { unit };
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(Complaint::new(format!("`{unit}` is no unit of size"), SIZE_HINT));
    };
    number
        .checked_mul(*factor)
        .ok_or_else(|| Complaint::new(format!("{text} is larger than any file"), "write a smaller size"))
}

/// Writes a size in the largest unit that holds it whole.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let (unit, factor) = [3, 2, 1, 6, 5, 4]
        .iter()
        .map(|&i| &SIZE_UNITS[i])
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
        .unwrap_or(&SIZE_UNITS[0]);
    format!("{}{unit}", bytes / factor)
}

fn split<'a>(text: &'a str, hint: &str) -> Result<(u64, &'a str), Complaint> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if digits == 0 {
        return Err(Complaint::new(format!("\"{text}\" does not start with a whole number"), hint));
    }
    if unit.is_empty() {
        return Err(Complaint::new("a bare number has no unit", hint));
    }
    let number = number
        .parse()
        .map_err(|_| Complaint::new(format!("{number} is too large"), "write a smaller number"))?;
    Ok((number, unit))
}

/// Reads an address to listen on: `HOST:PORT`, `[V6]:PORT`, or `:PORT` for every interface, IPv4 and
/// IPv6 (as nginx and Caddy users expect). `HOST` is an IP address or `localhost`; port 0 lets the
/// system choose.
///
/// # Errors
/// No port, or a host name: which of its addresses was meant would be a guess.
pub fn parse_listen(text: &str) -> Result<SocketAddr, Complaint> {
    const NEXT: &str = "write ADDRESS:PORT like \"127.0.0.1:8080\" or \"[::1]:8080\", or \":8080\" for \
                        every interface";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Complaint::new(format!("\"{text}\" has no port"), NEXT));
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(Complaint::new(format!("\"{port}\" is no port (0 to 65535)"), NEXT));
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let ip = match (host, bracketed) {
        ("", _) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ("localhost", _) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        (_, Some(v6)) => {
            let v6: Ipv6Addr =
                v6.parse().map_err(|_| Complaint::new(format!("\"{v6}\" is no IPv6 address"), NEXT))?;
            IpAddr::V6(v6)
        }
        _ => {
            let v4: Ipv4Addr = host.parse().map_err(|_| {
                Complaint::new(format!("\"{host}\" is no IPv4 address of this machine"), NEXT)
            })?;
            IpAddr::V4(v4)
        }
    };
    Ok(SocketAddr::new(ip, port))
}

/// How a name server is written.
pub const NAME_SERVER_HINT: &str = "write ADDRESS:PORT like \"9.9.9.9:53\" or \"[2620:fe::fe]:53\"";

/// Reads the address of a name server: as [`parse_listen`], of a machine that can be asked.
///
/// # Errors
/// No port, or a name.
pub fn parse_name_server(text: &str) -> Result<SocketAddr, Complaint> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let whole = SocketAddr::new(address, 53);
        return Err(Complaint::new(format!("\"{text}\" has no port"), format!("write \"{whole}\"")));
    }
    parse_listen(text).map_err(|complaint| Complaint::new(complaint.why, NAME_SERVER_HINT))
}

/// Reads a network in CIDR form, or one address.
///
/// # Errors
/// Anything else, and networks with bits set beyond their length: one of the two is a slip.
pub fn parse_network(text: &str) -> Result<IpNet, Complaint> {
    const NEXT: &str = "write a network like \"10.0.0.0/8\" or \"fd00::/8\", or one address";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet =
        text.parse().map_err(|_| Complaint::new(format!("\"{text}\" is no network in CIDR form"), NEXT))?;
    if network.trunc() == network {
        return Ok(network);
    }
    Err(Complaint::new(
        format!("{text} has bits set beyond its length"),
        format!("write \"{}\", or \"{}\" for that address alone", network.trunc(), network.addr()),
    ))
}

/// Checks an RFC 3339 full-date, `2026-11-23`.
///
/// # Errors
/// Another form, or a day that does not exist.
pub fn parse_date(text: &str) -> Result<String, Complaint> {
    const NEXT: &str = "write a date like \"2026-11-23\"";
    let shaped = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    if shaped && text.parse::<jiff::civil::Date>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("\"{text}\" is no RFC 3339 date (section 5.6, full-date)"), NEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records are kept for longer than the longest duration (11 CCR 7101: 24 months).
    #[test]
    fn days_are_read_whole_and_with_their_unit() {
        assert_eq!(parse_days("731d"), Ok(Duration::from_secs(731 * 86_400)));
        for wrong in ["731", "24mo", "0d", "40000d", "1.5d", "d", ""] {
            assert!(parse_days(wrong).is_err(), "{wrong}");
        }
    }

    /// Durations and sizes carry their unit; what is written can be shown and read again.
    #[test]
    fn units_survive_being_written_and_read() {
        for text in ["250ms", "30s", "5m", "1h", "90s", "0s", "36h"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("7d").unwrap(), Duration::from_secs(7 * 86_400));
        for text in ["512B", "64KiB", "1MiB", "10MB", "3GiB", "0B", "7kB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
        assert_eq!(parse_size("5 KB").unwrap(), 5_000);
    }

    /// A number without a unit is the commonest slip: 30 could be seconds or milliseconds.
    #[test]
    fn values_without_a_usable_unit_are_refused() {
        for text in ["30", "", "s", "1.5h", "-1s", "30 parsecs", "400d", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["64", "", "KiB", "64 pages", "99999999999GiB", "1.5MiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listen_addresses_are_read_as_documented() {
        for (text, want) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:80", "[::1]:80"),
            (":8080", "[::]:8080"),
            ("localhost:0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse_listen(text).unwrap().to_string(), want);
        }
        for text in ["8080", "127.0.0.1", "example.com:80", "::1:80", "127.0.0.1:99999", "[::1]", "[x]:1"] {
            assert!(parse_listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_with_stray_bits_is_refused_with_both_readings() {
        assert_eq!(parse_network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_network("::1").unwrap().to_string(), "::1/128");
        let complaint = parse_network("10.1.2.3/8").unwrap_err();
        assert_eq!(complaint.next, "write \"10.0.0.0/8\", or \"10.1.2.3\" for that address alone");
        assert!(parse_network("10.0.0/8").is_err());
    }

    #[test]
    fn only_full_dates_that_exist_are_dates() {
        assert!(parse_date("2026-11-23").is_ok());
        for text in ["2026-02-30", "20261123", "2026-11-23T00:00:00Z", "today", "2026-1-2", ""] {
            assert!(parse_date(text).is_err(), "{text}");
        }
    }
}
