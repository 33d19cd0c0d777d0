//! How much one customer may hold at once.

/// A limit that a customer has reached, with the number that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Held and booked seats in one session.
    Seats(i64),
    /// Unpaid orders over all sessions that can still be paid.
    Unpaid(i64),
}

/// What a customer has, as far as the limits count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Held and booked seats in the session.
    pub seats: i64,
    /// Unpaid orders over all sessions that can still be paid.
    pub unpaid: i64,
    /// An order of theirs in the session was rejected before: they were told.
    pub rejected: bool,
}

impl Holding {
    /// The limit that one more unpaid seat would exceed; `None` when there is room for it.
    pub fn reached(&self, seats_per_customer: i64, unpaid_per_customer: i64) -> Option<Limit> {
        if self.seats >= seats_per_customer {
            Some(Limit::Seats(seats_per_customer))
        } else if self.unpaid >= unpaid_per_customer {
            Some(Limit::Unpaid(unpaid_per_customer))
        } else {
            None
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seats(most) => write!(f, "One customer may have {most} seats of this session at a time."),
            Self::Unpaid(most) => {
                write!(f, "One customer may have {most} unpaid orders at a time: pay or cancel one of them first.")
            }
        }
    }
}
