//! Orders put straight into the books, in any state, for tests of the ingress without workers; histories moved into
//! the past; tokens of any role.

use uuid::Uuid;

use crate::stack::Stack;

impl Stack {
    /// An order with this status, last changed a minute ago, as the workers would have left it.
    pub(crate) async fn stage_order(&self, user: &str, schedule: &str, status: &str) -> String {
        let order = format!("t{}", &Uuid::now_v7().simple().to_string()[..24]);
        sqlx::query("INSERT INTO users (user_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(user)
            .execute(&self.db)
            .await
            .expect("a user");
        sqlx::query(
            "INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, code_url,
                                         paid_at, transaction_id, paid_fen, audit_head, submitted_at, updated_at)
             SELECT $1, $2, $3::uuid, $4::order_status, 'native', 20000, 'staged', 'weixin://staged',
                    CASE WHEN paid THEN now() END, CASE WHEN paid THEN $1 END, CASE WHEN paid THEN 20000 ELSE 0 END,
                    '', now() - interval '1 minute', now() - interval '1 minute'
               FROM (SELECT $4 IN ('confirmed', 'refunding', 'refunded') AS paid) p",
        )
        .bind(&order)
        .bind(user)
        .bind(schedule)
        .bind(status)
        .execute(&self.db)
        .await
        .expect("an order");
        order
    }

    /// Moves the first versions of an order's history into a month long ago.
    pub(crate) async fn long_ago(&self, order: &str, up_to_version: i32) {
        let month = "CREATE TABLE IF NOT EXISTS payment_audit_log_2020_01 PARTITION OF payment_audit_log
             FOR VALUES FROM ('2020-01-01+00') TO ('2020-02-01+00')";
        sqlx::query(month).execute(&self.db).await.expect("a month");
        // Their hashes cover another time than the one they now say; the links between the rows hold.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "ALTER TABLE payment_audit_log DISABLE TRIGGER USER;
             CREATE TEMP TABLE moved AS SELECT * FROM payment_audit_log WHERE order_id = '{order}' AND version <= {up_to_version};
             DELETE FROM payment_audit_log WHERE order_id = '{order}' AND version <= {up_to_version};
             ALTER TABLE payment_audit_log ENABLE TRIGGER USER;
             UPDATE moved SET at = at - (now() - '2020-01-15');
             INSERT INTO payment_audit_log SELECT * FROM moved;
             DROP TABLE moved"
        )))
        .execute(&self.db)
        .await
        .expect("moved");
    }

    /// A token of any role, without an openid.
    pub(crate) fn token_of_role(&self, user: &str, role: holdfast::api::Role) -> String {
        let keys = holdfast::api::AuthKeys::from_settings(&self.settings().auth).expect("a key");
        let expires = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
        keys.mint(user, role, None, expires).expect("a token")
    }
}
