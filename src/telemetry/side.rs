//! Whose doing something is, as labels and log lines say it.

/// Whose side a failure is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The visitor's message.
    Downstream,
    /// Ours.
    Internal,
    /// The origin.
    Upstream,
}

impl Side {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Internal => "internal",
            Self::Upstream => "upstream",
        }
    }
}

/// Who broke off an answer before its body's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenBy {
    /// The visitor went, or sent too little.
    Visitor,
    /// The origin.
    Origin,
    /// A page could not be rewritten, or the time to drain was over.
    Optgate,
}

impl BrokenBy {
    /// The word of an access line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Origin => "origin",
            Self::Optgate => "optgate",
        }
    }
}
