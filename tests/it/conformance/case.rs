//! A case as data: what is sent, which clause it pins, and what must come of it.

/// What the clause asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// MUST and MUST NOT.
    Must,
    /// SHOULD, or a strictness of our own.
    Should,
}

/// One request as the origin must have read it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub line: String,
    pub has: Vec<(&'static str, String)>,
    pub lacks: Vec<&'static str>,
    pub body: Option<Vec<u8>>,
    /// Trailer lines, sorted, in lower case.
    pub trailers: Option<Vec<String>>,
}

/// What must come of a case.
#[derive(Debug, Clone)]
pub enum Want {
    /// One answer with one of these statuses, then the end; no whole request at the origin.
    Refused(&'static [u16]),
    /// These requests at the origin, each answered with 200.
    Forwarded(Vec<Seen>),
    /// Refused, or forwarded as this.
    Either(&'static [u16], Vec<Seen>),
    /// These requests, answered with 200, then one refusal and the end.
    ThenRefused(Vec<Seen>),
    /// One answer that is not the origin's.
    Answered(u16),
    /// The end, after at most one answer that is no success: the message never ended.
    Ended,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub clause: &'static str,
    pub level: Level,
    pub bytes: Vec<u8>,
    pub want: Want,
    /// About where messages end: sent byte by byte too.
    pub framing: bool,
    /// The sending side is closed behind the bytes.
    pub half_close: bool,
    /// Nothing in these bytes is about Optgate's own rules: other proxies are asked too.
    pub general: bool,
}

/// What stands behind every refused request: it must never be read.
pub const BEHIND: &str = "GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n";

const BAD: &[u16] = &[400];

/// A request that is answered with 400 and ends the connection.
pub fn refuse(name: impl Into<String>, clause: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    let bytes = [bytes.as_ref(), BEHIND.as_bytes()].concat();
    Case {
        name: name.into(),
        clause,
        level: Level::Must,
        bytes,
        want: Want::Refused(BAD),
        framing: false,
        half_close: false,
        general: true,
    }
}

/// A request that reaches the origin as this.
pub fn forward(
    name: impl Into<String>,
    clause: &'static str,
    bytes: impl AsRef<[u8]>,
    seen: impl IntoIterator<Item = Seen>,
) -> Case {
    let want = Want::Forwarded(seen.into_iter().collect());
    Case { bytes: bytes.as_ref().to_vec(), want, ..refuse(name, clause, "") }
}

impl Case {
    pub fn should(self) -> Self {
        Self { level: Level::Should, ..self }
    }

    pub fn framing(self) -> Self {
        Self { framing: true, ..self }
    }

    pub fn half_close(self) -> Self {
        Self { half_close: true, ..self }
    }

    /// About a rule of ours.
    pub fn ours(self) -> Self {
        Self { general: false, ..self }
    }

    pub fn want(self, want: Want) -> Self {
        Self { want, ..self }
    }

    pub fn statuses(self, statuses: &'static [u16]) -> Self {
        self.want(Want::Refused(statuses))
    }

    /// Refused with 400, or forwarded as this.
    pub fn or_forwarded(self, seen: Seen) -> Self {
        self.want(Want::Either(BAD, vec![seen]))
    }

    /// Without a request behind it.
    pub fn alone(mut self) -> Self {
        let length = self.bytes.len() - BEHIND.len();
        assert!(self.bytes.ends_with(BEHIND.as_bytes()));
        self.bytes.truncate(length);
        self
    }
}

/// A request line at the origin.
pub fn seen(line: &str) -> Seen {
    Seen { line: format!("{line} HTTP/1.1"), ..Seen::default() }
}

impl Seen {
    pub fn has(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.has.push((name, value.into()));
        self
    }

    pub fn lacks(mut self, name: &'static str) -> Self {
        self.lacks.push(name);
        self
    }

    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(body.as_ref().to_vec()), ..self }
    }

    pub fn trailers(self, lines: &[&str]) -> Self {
        Self { trailers: Some(lines.iter().map(|line| (*line).to_owned()).collect()), ..self }
    }
}

/// A `GET` with more fields, each ended by CR LF.
pub fn get(fields: &str) -> String {
    format!("GET /case HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")
}

/// A `POST` with more fields, then what follows its head.
pub fn post(fields: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("POST /case HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n");
    [head.as_bytes(), rest.as_ref()].concat()
}

/// A chunked `POST`.
pub fn chunked(rest: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", rest)
}
