//! Values that are checked where they are read, so that a complaint names their line.
//!
//! Each type reads one string. A complaint travels through serde in two parts: why, then what to do.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::ProcessMemory;
use super::account;
use super::csp::{self, CspSource};
use super::listen::{self, ListenAt};
use super::raw::{RawListenTable, RawUpstreamTable};
use super::sharing::{self, HashOn};
use super::store::{self, DatabaseUrl};
use super::units::{self, Complaint};
use super::upstream::{self, OriginUrl};
use super::words::SEPARATOR;

/// A value written as one string.
trait Text: Sized {
    /// What is expected, for type errors.
    const WHAT: &'static str;
    /// What to write instead of a bare number.
    const NUMBER: &'static str;
    fn parse(text: &str) -> Result<Self, Complaint>;
    fn show(&self) -> String;
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(complain)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Err(complain(Complaint::new(format!("{number} is a bare number"), T::NUMBER)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        Err(complain(Complaint::new(format!("{number} is a bare number"), T::NUMBER)))
    }
}

pub(super) fn complain<E: de::Error>(complaint: Complaint) -> E {
    E::custom(format!("{}{SEPARATOR}{}", complaint.why, complaint.next))
}

macro_rules! text_values {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $number:expr, $parse:expr, $show:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl Text for $name {
            const WHAT: &'static str = $what;
            const NUMBER: &'static str = $number;
            fn parse(text: &str) -> Result<Self, Complaint> {
                let parse: fn(&str) -> Result<$inner, Complaint> = $parse;
                parse(text).map(Self)
            }
            fn show(&self) -> String {
                let show: fn(&$inner) -> String = $show;
                show(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor::<Self>(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.show())
            }
        }
    )*};
}

text_values! {
    /// `"30s"`.
    Period(Duration), "a duration like \"30s\"", units::DURATION_HINT,
        units::parse_duration, |d| units::show_duration(*d);
    /// `"731d"`, or `"none"` for ever.
    Keeping(Option<Duration>), "a number of days like \"731d\", or \"none\"", units::DAYS_HINT,
        |text| if text == "none" { Ok(None) } else { units::parse_days(text).map(Some) },
        |days| days.map_or_else(|| "none".to_owned(), |d| format!("{}d", d.as_secs() / 86_400));
    /// `"64KiB"`.
    Size(u64), "a size like \"64KiB\"", units::SIZE_HINT, units::parse_size, |s| units::show_size(*s);
    /// A size, or `"none"` for no limit.
    SizeLimit(Option<u64>), "a size like \"10MB\", or \"none\"", units::SIZE_HINT,
        |text| if text == "none" { Ok(None) } else { units::parse_size(text).map(Some) },
        |s| s.map_or_else(|| "none".to_owned(), units::show_size);
    /// A size, `"auto"`, or `"none"` for no limit.
    MemoryLimit(ProcessMemory), "a size like \"512MiB\", \"auto\" or \"none\"", units::SIZE_HINT,
        |text| match text {
            "auto" => Ok(ProcessMemory::Auto),
            "none" => Ok(ProcessMemory::Unlimited),
            _ => units::parse_size(text).map(ProcessMemory::Bytes),
        },
        |limit| match limit {
            ProcessMemory::Auto => "auto".to_owned(),
            ProcessMemory::Unlimited => "none".to_owned(),
            ProcessMemory::Bytes(bytes) => units::show_size(*bytes),
        };
    /// `"127.0.0.1:8080"`, `":8080"`.
    Address(SocketAddr), "an address like \"127.0.0.1:8080\"",
        "write the address with its port in quotes, \":8080\" for every interface",
        units::parse_listen, ToString::to_string;
    /// `"9.9.9.9:53"`.
    NameServer(SocketAddr), "an address like \"9.9.9.9:53\"", units::NAME_SERVER_HINT,
        units::parse_name_server, ToString::to_string;
    /// `"127.0.0.1:8080"`, `"unix:/run/optgate.sock"`.
    ListenText(ListenAt), "an address like \"127.0.0.1:8080\"",
        "write the address with its port in quotes, \":8080\" for every interface",
        listen::parse, listen::show;
    /// `"0660"`.
    FileMode(u32), "permission bits like \"0660\"", "write the bits in quotes: \"0660\"",
        listen::parse_mode, |mode| format!("{mode:04o}");
    /// `"header:X-Tenant"`.
    HashKey(HashOn), "a part of the request like \"address\"", "write \"address\"",
        sharing::parse_hash_on, sharing::show_hash_on;
    /// The name of a cookie of ours.
    CookieName(String), "a cookie name", "write the name in quotes",
        sharing::parse_cookie_name, Clone::clone;
    /// The name of a cookie of the site's.
    SiteCookie(String), "a cookie name", "write the name in quotes",
        account::parse_cookie, Clone::clone;
    /// `"200-399"`.
    Statuses((u16, u16)), "statuses like \"200-399\"", "write the statuses in quotes: \"200-399\"",
        sharing::parse_statuses,
        |(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    /// `"10.0.0.0/8"`.
    Network(IpNet), "a network like \"10.0.0.0/8\"", "write the network in quotes",
        units::parse_network, ToString::to_string;
    /// `"2026-11-23"`.
    Date(String), "a date like \"2026-11-23\"", "write the date in quotes: \"2026-11-23\"",
        units::parse_date, Clone::clone;
    /// `"http://127.0.0.1:3000"`, `"unix:/run/shop.sock"`.
    Origin(OriginUrl), "an origin like \"http://127.0.0.1:3000\"",
        "write the whole URL in quotes: \"http://127.0.0.1:3000\"",
        upstream::parse, |url| url.text.clone();
    /// `"cdn.example.com"`, as a Content-Security-Policy names it.
    AllowedSource(CspSource), "a host like \"cdn.example.com\"", "write the host in quotes",
        csp::parse, ToString::to_string;
    /// A field name.
    FieldName(http::HeaderName), "a header name", "write the name of a request header in quotes",
        parse_field_name, ToString::to_string;
    /// `"postgres://optgate@db.example/optgate"`.
    Database(DatabaseUrl), "a database like \"postgres://optgate@db.example/optgate\"",
        "write the whole URL in quotes", store::parse_url, ToString::to_string;
    /// A path that is not empty.
    FilePath(PathBuf), "a path", "write the path in quotes",
        |text| if text.is_empty() {
            Err(Complaint::new("the path is empty", "write a path, or remove the setting"))
        } else { Ok(PathBuf::from(text)) },
        |path| path.display().to_string();
}

fn parse_field_name(text: &str) -> Result<http::HeaderName, Complaint> {
    // Names that carry a meaning of their own, and ours, which are deleted on arrival.
    const TAKEN: [&str; 10] = [
        "connection",
        "content-length",
        "cookie",
        "host",
        "sec-gpc",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name: http::HeaderName = text.parse().map_err(|_| {
        Complaint::new(
            format!("\"{text}\" is no header name (RFC 9110, section 5.1: letters, digits and -_.)"),
            "write a name like \"X-Account-Id\"",
        )
    })?;
    if TAKEN.contains(&name.as_str()) || name.as_str().starts_with("optgate-") {
        return Err(Complaint::new(
            format!("`{name}` has a meaning of its own"),
            "let the trusted hop send a header of its own, like \"X-Account-Id\"",
        ));
    }
    Ok(name)
}

/// One string or a list of strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        // serde words the errors of a plain string deserializer as it does those of a file's.
        T::deserialize(de::value::StrDeserializer::<E>::new(text)).map(|one| OneOrMany(vec![one]))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(de::value::U64Deserializer::<E>::new(number)).map(|one| OneOrMany(vec![one]))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(de::value::I64Deserializer::<E>::new(number)).map(|one| OneOrMany(vec![one]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            all.push(one);
        }
        Ok(OneOrMany(all))
    }
}

/// An origin of a site: a URL, or a table for more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RawUpstream {
    /// `"https://origin.example"`.
    Url(Origin),
    /// `{ url = "...", host = "..." }`.
    Table(RawUpstreamTable),
}

impl<'de> Deserialize<'de> for RawUpstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UpstreamVisitor)
    }
}

/// By hand, because serde's untagged enums forget which of the two forms was meant.
struct UpstreamVisitor;

impl<'de> Visitor<'de> for UpstreamVisitor {
    type Value = RawUpstream;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin like \"http://127.0.0.1:3000\" or a table with `url`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawUpstream, E> {
        Origin::parse(text).map(RawUpstream::Url).map_err(complain)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawUpstream, A::Error> {
        RawUpstreamTable::deserialize(MapAccessDeserializer::new(map)).map(RawUpstream::Table)
    }
}

/// A listener: an address, or a table for more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RawListen {
    /// `"127.0.0.1:8080"`.
    Address(ListenText),
    /// `{ address = "...", proxy_protocol = true }`.
    Table(RawListenTable),
}

impl<'de> Deserialize<'de> for RawListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenVisitor)
    }
}

/// By hand, as for [`RawUpstream`].
struct ListenVisitor;

impl<'de> Visitor<'de> for ListenVisitor {
    type Value = RawListen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address like \"127.0.0.1:8080\" or a table with `address`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawListen, E> {
        ListenText::parse(text).map(RawListen::Address).map_err(complain)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<RawListen, E> {
        Err(complain(Complaint::new(format!("{number} is a bare number"), ListenText::NUMBER)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawListen, A::Error> {
        RawListenTable::deserialize(MapAccessDeserializer::new(map)).map(RawListen::Table)
    }
}
