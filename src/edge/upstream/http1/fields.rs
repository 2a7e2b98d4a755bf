//! The fields of an answer's head, as the types have them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use crate::edge::message::wire;
use crate::edge::strict::{Known, Reason};

/// What stood in each place of the connection's last head, once it has come there twice: a name and a value that are
/// at hand cost two counts, and reading them a look at every byte.
///
/// A value has bytes of its own: those of the read buffer would keep all of it.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<Option<(HeaderName, HeaderValue)>>);

impl Fields {
    /// Adds the fields of a head that was found well-formed to `into`. `known` has just read it.
    ///
    /// # Errors
    /// The types refuse what the scan let through.
    pub(super) fn read(&mut self, head: &Bytes, known: &Known, into: &mut HeaderMap) -> Result<(), Reason> {
        let mut place = 0;
        let first = line_end(head, 0);
        let mut start = first;
        loop {
            let end = known.end_of(place).map_or_else(|| line_end(head, start), |end| first + end);
            let Some(line @ [_, ..]) = head.get(start..end).and_then(|line| line.strip_suffix(b"\r\n"))
            else {
                break;
            };
            if place == self.0.len() {
                self.0.push(None);
            }
            let entry = &mut self.0[place];
            let (name, value) = match entry {
                Some((name, value)) if known.came_again(place) => (name.clone(), value.clone()),
                _ => {
                    let (name, value) = wire::split(line).ok_or(Reason::FieldName)?;
                    if known.came_again(place) {
                        let value = HeaderValue::from_bytes(&line[value]).map_err(|_| Reason::FieldValue)?;
                        *entry = Some((name.clone(), value.clone()));
                        (name, value)
                    } else {
                        *entry = None;
                        let value = head.slice(start + value.start..start + value.end);
                        (name, HeaderValue::from_maybe_shared(value).map_err(|_| Reason::FieldValue)?)
                    }
                }
            };
            into.append(name, value);
            (place, start) = (place + 1, end);
        }
        self.0.truncate(place);
        Ok(())
    }

    /// The next head does not follow the one that was read here last.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Where the line that begins at `start` ends, behind its line feed.
fn line_end(head: &[u8], start: usize) -> usize {
    let rest = head.get(start..).unwrap_or_default();
    start + memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::strict::{Limits, Scan};

    const LIMITS: Limits = Limits { bytes: 8000, fields: 20 };

    fn read(head: &str, known: &mut Known, fields: &mut Fields) -> HeaderMap {
        let length = Scan::default().answer(head.as_bytes(), LIMITS, known).unwrap().unwrap().length;
        let mut map = HeaderMap::new();
        fields.read(&Bytes::copy_from_slice(&head.as_bytes()[..length]), known, &mut map).unwrap();
        map
    }

    /// What is remembered changes nothing: every head behind every two others.
    #[test]
    fn a_head_is_read_alike_behind_every_other_one() {
        let long = format!("HTTP/1.1 200 OK\r\nA: 1\r\nLong: {}\r\nB: 2\r\n\r\n", "x".repeat(3000));
        let heads = [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nA: 1\r\nB: 3\r\nC: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nB: 2\r\nA: 1\r\nC: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\nA: 1\r\nA:\r\nB : \t 2 \t\r\n\r\n",
            "HTTP/1.0 200\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\nX-Own: \u{e4}\r\n\r\nabc",
            &long,
        ];
        let alone = |head: &str| read(head, &mut Known::default(), &mut Fields::default());
        for first in heads {
            for second in heads {
                for head in heads {
                    let (mut known, mut fields) = Default::default();
                    for before in [first, second, second] {
                        read(before, &mut known, &mut fields);
                    }
                    assert_eq!(read(head, &mut known, &mut fields), alone(head), "{first:?}, {second:?}");
                    assert_eq!(read(head, &mut known, &mut fields), alone(head), "{head:?} again");
                }
            }
        }
        let map = alone(heads[4]);
        let values: Vec<_> = map.get_all("a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"1"[..], b"1", b""]);
        assert_eq!(map["b"], "2");
    }
}
