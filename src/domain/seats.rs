//! Who gets which seat: first come, first served, in one pass over a batch in arrival order.

use std::collections::BTreeSet;

use super::ids::SeatNo;

/// What a customer asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Any,
    This(SeatNo),
}

/// What they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allotment {
    Seat(SeatNo),
    /// That very seat is gone (or never existed); others may be free.
    SeatTaken,
    SoldOut,
}

/// Takes seats out of `free` for each wish in turn. "Any" gets the lowest free number.
pub fn allot(wish: Wish, free: &mut BTreeSet<SeatNo>) -> Allotment {
    match wish {
        Wish::Any => free.pop_first().map_or(Allotment::SoldOut, Allotment::Seat),
        Wish::This(seat) if free.remove(&seat) => Allotment::Seat(seat),
        Wish::This(_) if free.is_empty() => Allotment::SoldOut,
        Wish::This(_) => Allotment::SeatTaken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn s5_3_no_seat_twice_and_none_left_while_somebody_goes_without(
            capacity in 0i32..40,
            wishes in prop::collection::vec(prop_oneof![Just(Wish::Any), (1i32..50).prop_map(|n| Wish::This(SeatNo(n)))], 0..80),
        ) {
            let mut free: BTreeSet<SeatNo> = (1..=capacity).map(SeatNo).collect();
            let mut given = BTreeSet::new();
            for wish in wishes {
                match allot(wish, &mut free) {
                    Allotment::Seat(seat) => {
                        prop_assert!(given.insert(seat));
                        if let Wish::This(wanted) = wish { prop_assert_eq!(wanted, seat); }
                    }
                    Allotment::SoldOut => prop_assert!(free.is_empty()),
                    Allotment::SeatTaken => prop_assert!(!free.is_empty() && matches!(wish, Wish::This(_))),
                }
            }
            prop_assert_eq!(given.len() + free.len(), usize::try_from(capacity).unwrap());
        }
    }
}
