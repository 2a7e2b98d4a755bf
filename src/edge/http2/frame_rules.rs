//! What a client's HTTP/2 frames must be, where hyper's reader lets them pass or has another error for it than the
//! standard: how long they are, which comes first, and what may follow a stream's end.
//!
//! What is wrong with one stream alone ends the connection too, as it may (RFC 9113, 5.4).

use crate::edge::strict::Reason;

/// Bytes of a frame's head (RFC 9113, 4.1).
pub const HEAD: usize = 9;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// SETTINGS_INITIAL_WINDOW_SIZE, and the largest that may be (RFC 9113, 6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;
const MOST_WINDOW: u32 = u32::MAX >> 1;
/// Bytes of a setting.
const SETTING: usize = 6;

/// So many of the streams that a client ended last are remembered. What comes for an earlier one hyper refuses too, as
/// PROTOCOL_ERROR.
const ENDED: usize = 32;

/// What is known of a connection's frames that others are held to.
#[derive(Debug, Default)]
pub struct FrameRules {
    /// The settings that a client begins with have come.
    greeted: bool,
    /// Streams that the client has ended, and which of them is the oldest. None is 0.
    ended: [u32; ENDED],
    oldest: usize,
    /// The setting under way.
    setting: [u8; SETTING],
    have: usize,
}

impl FrameRules {
    /// Whether the client has begun as it must.
    #[must_use]
    pub const fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// A frame begins. `is_new`: its stream is later than all before it.
    ///
    /// Cost: for data and trailers a look at the streams that were ended.
    ///
    /// # Errors
    /// It is none that may stand there.
    pub fn begin(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        length: u32,
        is_new: bool,
    ) -> Result<(), Reason> {
        if !has_its_length(kind, flags, length) {
            return Err(Reason::FrameSize);
        }
        if !self.greeted {
            if kind != SETTINGS || flags & ACK != 0 {
                return Err(Reason::Preface);
            }
            self.greeted = true;
        }
        match kind {
            SETTINGS => self.have = 0,
            DATA | HEADERS => {
                if !is_new && stream != 0 && self.ended.contains(&stream) {
                    return Err(Reason::StreamClosed);
                }
                if flags & END_STREAM != 0 {
                    self.ended[self.oldest] = stream;
                    self.oldest = (self.oldest + 1) % ENDED;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The next piece of settings.
    ///
    /// # Errors
    /// One of them has a value that it may not have.
    pub fn settings(&mut self, mut piece: &[u8]) -> Result<(), Reason> {
        while !piece.is_empty() {
            let step = piece.len().min(SETTING - self.have);
            self.setting[self.have..self.have + step].copy_from_slice(&piece[..step]);
            self.have += step;
            piece = &piece[step..];
            if self.have == SETTING {
                self.have = 0;
                let [a, b, value @ ..] = self.setting;
                let is_window = u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE;
                if is_window && u32::from_be_bytes(value) > MOST_WINDOW {
                    return Err(Reason::WindowSize);
                }
            }
        }
        Ok(())
    }
}

/// Whether a frame is as long as its kind must be (RFC 9113, 4.2 and 6.1 to 6.9).
const fn has_its_length(kind: u8, flags: u8, length: u32) -> bool {
    match kind {
        DATA if flags & PADDED != 0 => length >= 1,
        HEADERS => {
            let padding = if flags & PADDED != 0 { 1 } else { 0 };
            let priority = if flags & WITH_PRIORITY != 0 { 5 } else { 0 };
            length >= padding + priority
        }
        PRIORITY => length == 5,
        RST_STREAM | WINDOW_UPDATE => length == 4,
        SETTINGS if flags & ACK != 0 => length == 0,
        SETTINGS => length.is_multiple_of(6),
        PING => length == 8,
        GOAWAY => length >= 8,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted() -> FrameRules {
        FrameRules { greeted: true, ..FrameRules::default() }
    }

    /// RFC 9113, 3.4.
    #[test]
    fn a_client_begins_with_its_settings() {
        for (kind, flags, length) in
            [(HEADERS, END_HEADERS, 9), (PING, 0, 8), (WINDOW_UPDATE, 0, 4), (0xfa, 0, 1), (SETTINGS, ACK, 0)]
        {
            let begun = FrameRules::default().begin(kind, flags, 0, length, false);
            assert_eq!(begun, Err(Reason::Preface), "{kind} {flags}");
        }
        let mut rules = FrameRules::default();
        assert_eq!(rules.begin(SETTINGS, 0, 0, 0, false), Ok(()));
        assert_eq!(rules.begin(PING, 0, 0, 8, false), Ok(()));
    }

    /// RFC 9113, 4.2, 6.1 to 6.3.
    #[test]
    fn frames_have_room_for_what_their_flags_say() {
        for (kind, flags, least) in [
            (DATA, PADDED, 1),
            (HEADERS, PADDED, 1),
            (HEADERS, WITH_PRIORITY, 5),
            (HEADERS, PADDED | WITH_PRIORITY, 6),
        ] {
            assert!(has_its_length(kind, flags, least), "{kind} {flags}");
            assert!(!has_its_length(kind, flags, least - 1), "{kind} {flags}");
        }
        let priorities: Vec<_> = (0..9).filter(|length| has_its_length(PRIORITY, 0, *length)).collect();
        assert_eq!(priorities, [5]);
    }

    /// RFC 9113, 5.1 and 6.1.
    #[test]
    fn nothing_of_a_message_follows_its_end() {
        for last in [HEADERS, DATA] {
            for more in [HEADERS, DATA] {
                let mut rules = greeted();
                assert_eq!(rules.begin(HEADERS, 0, 1, 9, true), Ok(()));
                assert_eq!(rules.begin(DATA, 0, 1, 9, false), Ok(()));
                assert_eq!(rules.begin(last, END_STREAM, 1, 9, false), Ok(()));
                assert_eq!(rules.begin(WINDOW_UPDATE, 0, 1, 4, false), Ok(()));
                assert_eq!(rules.begin(more, 0, 1, 9, false), Err(Reason::StreamClosed));
                assert_eq!(rules.begin(HEADERS, END_STREAM, 3, 9, true), Ok(()));
            }
        }
        // Of the connection's own, or of a stream that never was: another error, and hyper's.
        assert_eq!(greeted().begin(DATA, 0, 0, 9, false), Ok(()));
        assert_eq!(greeted().begin(DATA, 0, 7, 9, false), Ok(()));
    }

    /// RFC 9113, 6.5.2, wherever the bytes are cut.
    #[test]
    fn a_window_that_no_window_can_be_is_found_at_every_cut() {
        for (window, fits) in [(MOST_WINDOW, true), (MOST_WINDOW + 1, false)] {
            let settings = [&[0, 3, 0xff, 0xff, 0xff, 0xff, 0, 4][..], &window.to_be_bytes()].concat();
            for cut in 0..settings.len() {
                let mut rules = greeted();
                let (a, b) = settings.split_at(cut);
                assert_eq!(rules.settings(a).and_then(|()| rules.settings(b)).is_ok(), fits, "cut at {cut}");
            }
        }
    }
}
