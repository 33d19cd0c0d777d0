-- What customers are to be told. A row is the intent; the queue only makes it quick.

CREATE TYPE notification_kind AS ENUM (
    'booking_confirmed', 'booking_failed', 'hold_lapsed', 'order_expired',
    'payment_received', 'refunded', 'waitlist_offer');
CREATE TYPE notification_status AS ENUM ('pending', 'sent', 'failed', 'uncertain');

CREATE TABLE notifications (
    order_id         text                NOT NULL CONSTRAINT notifications_order_fk REFERENCES payment_orders,
    kind             notification_kind   NOT NULL,
    status           notification_status NOT NULL DEFAULT 'pending',
    attempts         integer             NOT NULL DEFAULT 0,
    -- Since when an attempt has been made whose answer we do not know; set before the call, cleared by
    -- the answer. WeChat remembers a client_msg_id for ten minutes: after that a repeat could be a second
    -- message, so the notification becomes `uncertain` instead.
    in_doubt_since   timestamptz,
    sent_at          timestamptz,
    msgid            bigint,
    errcode          integer,
    error            text,
    created_at       timestamptz         NOT NULL DEFAULT now(),
    updated_at       timestamptz         NOT NULL DEFAULT now(),
    -- At most one message of a kind per order, for ever.
    CONSTRAINT notifications_pk PRIMARY KEY (order_id, kind)
);
CREATE INDEX notifications_pending ON notifications (updated_at) WHERE status = 'pending';
