-- Orders and the seats they hold. The names of the tables are fixed by the specification.

CREATE TYPE order_status AS ENUM (
    'submitted', 'held', 'awaiting_payment', 'confirmed', 'rejected',
    'lapsed', 'cancelled', 'expired', 'refunding', 'refunded');
CREATE TYPE payment_channel AS ENUM ('native', 'jsapi');

CREATE TABLE payment_orders (
    -- Derived from (user, Idempotency-Key); WeChat's out_trade_no is the same text.
    order_id        text            NOT NULL,
    user_id         text            NOT NULL CONSTRAINT payment_orders_user_fk REFERENCES users,
    schedule_id     uuid            NOT NULL CONSTRAINT payment_orders_schedule_fk REFERENCES course_schedules,
    status          order_status    NOT NULL,
    channel         payment_channel NOT NULL,
    amount_fen      bigint          NOT NULL,
    currency        text            NOT NULL DEFAULT 'CNY',
    seat_wish       integer,
    -- What the first request under this key asked for; another body under the same key is refused.
    request_hash    text            NOT NULL,
    reason          text,
    alternatives    jsonb,
    code_url        text,
    prepay_id       text,
    -- The deadlines. Queues wake us, these columns decide, by the database's clock.
    hold_expires_at timestamptz,
    pay_before      timestamptz,
    paid_at         timestamptz,
    transaction_id  text,
    paid_fen        bigint          NOT NULL DEFAULT 0,
    refunded_fen    bigint          NOT NULL DEFAULT 0,
    version         integer         NOT NULL DEFAULT 1,
    -- Hash of the order's newest audit row; each new row is chained to it.
    audit_head      bytea           NOT NULL,
    -- Place in the line: when the ingress took the order, and the order of arrival within the session.
    submitted_at    timestamptz     NOT NULL,
    arrival         bigint          GENERATED ALWAYS AS IDENTITY,
    created_at      timestamptz     NOT NULL DEFAULT now(),
    updated_at      timestamptz     NOT NULL DEFAULT now(),
    CONSTRAINT payment_orders_pk PRIMARY KEY (order_id),
    CONSTRAINT payment_orders_id_form CHECK (order_id ~ '^[0-9a-z]{6,32}$'),
    CONSTRAINT payment_orders_amount_positive CHECK (amount_fen > 0),
    CONSTRAINT payment_orders_currency_cny CHECK (currency = 'CNY'),
    -- Two partial refunds together can never exceed the payment: the database says so, not a check-then-act.
    CONSTRAINT payment_orders_refunds_within_paid CHECK (refunded_fen BETWEEN 0 AND paid_fen),
    CONSTRAINT payment_orders_transaction_unique UNIQUE (transaction_id),
    CONSTRAINT payment_orders_confirmed_is_paid
        CHECK (status NOT IN ('confirmed', 'refunding', 'refunded') OR (paid_at IS NOT NULL AND transaction_id IS NOT NULL)),
    CONSTRAINT payment_orders_payable_has_code
        CHECK (status <> 'awaiting_payment' OR code_url IS NOT NULL OR prepay_id IS NOT NULL)
);

-- A customer's own orders, newest first.
CREATE INDEX payment_orders_by_user ON payment_orders (user_id, submitted_at DESC, order_id DESC);
-- All orders of a session, and the proof that seats went by arrival.
CREATE INDEX payment_orders_by_schedule ON payment_orders (schedule_id, arrival);
-- Sweeps: each index holds only what still has something to be done.
CREATE INDEX payment_orders_without_code ON payment_orders (updated_at) WHERE status = 'held';
CREATE INDEX payment_orders_hold_over ON payment_orders (hold_expires_at) WHERE status IN ('held', 'awaiting_payment');
CREATE INDEX payment_orders_deadline_over ON payment_orders (pay_before) WHERE status IN ('held', 'awaiting_payment', 'lapsed');
CREATE INDEX payment_orders_refunding ON payment_orders (updated_at) WHERE status = 'refunding';

CREATE TYPE reservation_status AS ENUM ('temporary', 'confirmed', 'cancelled');

CREATE TABLE seat_reservations (
    reservation_id uuid               NOT NULL DEFAULT gen_random_uuid(),
    order_id       text               NOT NULL CONSTRAINT seat_reservations_order_fk REFERENCES payment_orders,
    schedule_id    uuid               NOT NULL CONSTRAINT seat_reservations_schedule_fk REFERENCES course_schedules,
    seat_no        integer            NOT NULL,
    status         reservation_status NOT NULL,
    -- Only a temporary reservation ends by itself.
    expires_at     timestamptz,
    created_at     timestamptz        NOT NULL DEFAULT now(),
    updated_at     timestamptz        NOT NULL DEFAULT now(),
    CONSTRAINT seat_reservations_pk PRIMARY KEY (reservation_id),
    CONSTRAINT seat_reservations_seat_counted_from_one CHECK (seat_no >= 1),
    CONSTRAINT seat_reservations_temporary_expires CHECK (status <> 'temporary' OR expires_at IS NOT NULL),
    -- One row per order: an order that is paid late gets its row revived, with the seat it then has.
    CONSTRAINT seat_reservations_one_per_order UNIQUE (order_id)
);

-- The promise of the whole system: no seat has two live reservations, whatever the code does.
CREATE UNIQUE INDEX seat_reservations_one_live_per_seat
    ON seat_reservations (schedule_id, seat_no) WHERE status IN ('temporary', 'confirmed');
-- Counting a session's held and confirmed seats.
CREATE INDEX seat_reservations_availability ON seat_reservations (schedule_id, status) WHERE status <> 'cancelled';
-- Sweep: holds whose time is over.
CREATE INDEX seat_reservations_overdue ON seat_reservations (expires_at) WHERE status = 'temporary';

CREATE TABLE bookings (
    booking_id     uuid        NOT NULL DEFAULT gen_random_uuid(),
    order_id       text        NOT NULL CONSTRAINT bookings_order_fk REFERENCES payment_orders,
    reservation_id uuid        NOT NULL CONSTRAINT bookings_reservation_fk REFERENCES seat_reservations,
    user_id        text        NOT NULL CONSTRAINT bookings_user_fk REFERENCES users,
    schedule_id    uuid        NOT NULL CONSTRAINT bookings_schedule_fk REFERENCES course_schedules,
    seat_no        integer     NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- Set when the booking is given back; the row stays as history.
    cancelled_at   timestamptz,
    CONSTRAINT bookings_pk PRIMARY KEY (booking_id),
    CONSTRAINT bookings_one_per_order UNIQUE (order_id)
);
CREATE INDEX bookings_by_schedule ON bookings (schedule_id) WHERE cancelled_at IS NULL;

CREATE TABLE waitlist (
    schedule_id uuid        NOT NULL CONSTRAINT waitlist_schedule_fk REFERENCES course_schedules,
    user_id     text        NOT NULL CONSTRAINT waitlist_user_fk REFERENCES users,
    -- The place in the line.
    ticket      bigint      GENERATED ALWAYS AS IDENTITY,
    joined_at   timestamptz NOT NULL DEFAULT now(),
    -- The order made for this customer when a seat was offered.
    offered_order_id text   CONSTRAINT waitlist_order_fk REFERENCES payment_orders,
    left_at     timestamptz,
    CONSTRAINT waitlist_pk PRIMARY KEY (ticket)
);
-- One live place per customer and session; history stays.
CREATE UNIQUE INDEX waitlist_one_live_place
    ON waitlist (schedule_id, user_id) WHERE left_at IS NULL AND offered_order_id IS NULL;
CREATE INDEX waitlist_next ON waitlist (schedule_id, ticket) WHERE left_at IS NULL AND offered_order_id IS NULL;
