-- What refunds, deadlines and the waiting list need beyond the first schema.

-- `refunded_fen` is what WeChat has given back. What has been promised (requested, under way or done) is
-- counted apart, and it is this sum that may never exceed the payment: two partial refunds that are asked for
-- at the same moment cannot both pass.
ALTER TABLE payment_orders
    ADD COLUMN refund_promised_fen bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT payment_orders_promised_within_paid CHECK (refund_promised_fen BETWEEN 0 AND paid_fen),
    ADD CONSTRAINT payment_orders_refunded_was_promised CHECK (refunded_fen <= refund_promised_fen);

-- Parameters for the payment sheet inside WeChat, signed once, when the order was made there.
ALTER TABLE payment_orders ADD COLUMN jsapi jsonb;

-- Closing what nobody can get a seat for any more: the lapsed orders of a session that sold out.
CREATE INDEX payment_orders_lapsed ON payment_orders (schedule_id) WHERE status = 'lapsed';

-- WeChat takes one refund per order a minute, and one at a time.
ALTER TABLE refunds ADD COLUMN sent_at timestamptz;

-- One unfinished refund call per order: the one that may go to WeChat now is the oldest unfinished.
CREATE INDEX refunds_unfinished_by_order ON refunds (order_id, created_at) WHERE status IN ('requested', 'processing');

-- A request that cannot be met (nothing left, more than is left, not paid) stays visible with its reason.
ALTER TYPE refund_status ADD VALUE 'refused';
ALTER TABLE refunds ADD COLUMN error text;

-- The offers of a session that still wait for their code.
CREATE INDEX waitlist_offered ON waitlist (schedule_id) WHERE offered_order_id IS NOT NULL;
