-- What `reconcile` needs to put overdue intents back onto the queues.

-- When the intent was last put back. Without it every sweep would add another copy to a queue that is merely
-- long, or whose worker is away. Not indexed, so that marking a row rewrites no index.
ALTER TABLE payment_orders ADD COLUMN swept_at timestamptz;
ALTER TABLE refunds ADD COLUMN swept_at timestamptz;
ALTER TABLE notifications ADD COLUMN swept_at timestamptz;

-- Sweep: lapsed orders, longest first; those of sessions that sold out are to be closed at WeChat.
CREATE INDEX payment_orders_lapsed_since ON payment_orders (updated_at) WHERE status = 'lapsed';
