//! What only the first may do: take a refund's number, or ask WeChat because a customer looked.

use super::{Cache, CacheAway};
use crate::domain::ids::{OrderId, RefundId};

/// As long as clients may sensibly repeat a request; afterwards the stored refund tells.
const CLAIM_SECONDS: u64 = 24 * 60 * 60;

impl Cache {
    /// Claims a refund's number for what is asked. Gives what an earlier request asked for under it, if one did:
    /// the first to claim stands.
    pub async fn claim_refund(&self, refund: &RefundId, asked: &str) -> Result<Option<String>, CacheAway> {
        let mut claim = redis::cmd("SET");
        claim.arg(self.key("refund-claim", refund)).arg(asked).arg("NX").arg("GET").arg("EX").arg(CLAIM_SECONDS);
        self.run("claim_refund", &claim).await
    }

    /// Gives up a claim whose request was refused before anything came of it.
    pub async fn withdraw_refund(&self, refund: &RefundId) -> Result<(), CacheAway> {
        self.run("withdraw_refund", redis::cmd("DEL").arg(self.key("refund-claim", refund))).await
    }

    /// Whether nobody has looked at this order within the last `seconds`. Every process together asks once.
    pub async fn first_look(&self, order: &OrderId, seconds: u64) -> Result<bool, CacheAway> {
        let mut look = redis::cmd("SET");
        look.arg(self.key("look", order)).arg(1).arg("NX").arg("EX").arg(seconds);
        let set: Option<String> = self.run("first_look", &look).await?;
        Ok(set.is_some())
    }
}
