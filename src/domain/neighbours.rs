//! Other environments under our merchant number. WeChat's bill is the merchant's, so it tells of their orders, too; they are
//! told apart by the prefix of their order ids.

/// Prefixes of order ids that are not ours. None of them can begin an id of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours(Vec<String>);

impl Neighbours {
    /// Reads prefixes, separated by commas; `own` is ours.
    pub fn parse(prefixes: &str, own: &str) -> Result<Self, &'static str> {
        let prefixes: Vec<String> =
            prefixes.split(',').map(|prefix| prefix.trim().to_owned()).filter(|prefix| !prefix.is_empty()).collect();
        // What follows the prefix of an id is chance, so one prefix may not begin with the other.
        if prefixes.iter().any(|prefix| prefix.starts_with(own) || own.starts_with(prefix.as_str())) {
            return Err("cannot be told from order.id_prefix: neither may begin with the other");
        }
        Ok(Self(prefixes))
    }

    /// Whether this `out_trade_no` is one of theirs.
    pub fn own(&self, out_trade_no: &str) -> bool {
        self.0.iter().any(|prefix| out_trade_no.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_ours_is_never_taken_for_a_neighbours() {
        let neighbours = Neighbours::parse("st, qa", "hf").expect("three that differ");
        assert!(neighbours.own("st0123") && neighbours.own("qa0123"));
        assert!(!neighbours.own("hfst0123") && !neighbours.own("2026st"));
        assert_eq!(Neighbours::parse("", ""), Ok(Neighbours::default()));
        for (others, own) in [("hf", "hf"), ("hfst", "hf"), ("h", "hf"), ("st", "")] {
            assert!(Neighbours::parse(others, own).is_err(), "{others} beside {own}");
        }
    }
}
