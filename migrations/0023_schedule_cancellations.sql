-- The cancellation of a session is an intent in the books. Release 0.1 kept it in the process that carried it out: a
-- process that was killed left a session cancelled, some of its bookings refunded, and no row that said what was missing.
CREATE TABLE schedule_cancellations (
    schedule_id   uuid        NOT NULL CONSTRAINT schedule_cancellations_schedule_fk REFERENCES course_schedules,
    -- Who wants it, and why, as the customers read it in WeChat beside their refund.
    requested_by  text        NOT NULL,
    reason        text        NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT now(),
    -- Refunds and cancellations asked for per second; WeChat takes 150 of one merchant.
    rate          integer     NOT NULL,
    -- How far the present round through the session's orders is, by `payment_orders.arrival`, and when it went on. A
    -- round begins again while orders are left: asking twice changes nothing.
    asked_through bigint      NOT NULL DEFAULT 0,
    asked_at      timestamptz,
    -- When no order was left and WeChat had the last word about every refund.
    finished_at   timestamptz,
    CONSTRAINT schedule_cancellations_pk PRIMARY KEY (schedule_id),
    CONSTRAINT schedule_cancellations_rate CHECK (rate BETWEEN 1 AND 150)
);
-- Sweep: what is not finished.
CREATE INDEX schedule_cancellations_open ON schedule_cancellations (requested_at) WHERE finished_at IS NULL;

-- What 0.1 left: sessions that were cancelled are carried to their end, and nobody waits for them any more.
INSERT INTO schedule_cancellations (schedule_id, requested_by, reason, rate)
SELECT schedule_id, 'holdfast', '课程取消', 5 FROM course_schedules WHERE status = 'cancelled';
UPDATE waitlist w SET left_at = now() FROM course_schedules s
 WHERE s.schedule_id = w.schedule_id AND s.status = 'cancelled' AND w.left_at IS NULL AND w.offered_order_id IS NULL;
