-- Our books against WeChat's bill, one row per China day, and the facts of a day that differ.

CREATE TABLE book_days (
    bill_date            date        NOT NULL,
    started_at           timestamptz NOT NULL,
    -- The last comparing that came to its end; earlier than started_at while one is under way, or after it failed.
    finished_at          timestamptz,
    -- Why the last one did not come to its end.
    error                text,
    bill_payments        bigint      NOT NULL DEFAULT 0,
    bill_paid_fen        bigint      NOT NULL DEFAULT 0,
    bill_refunds         bigint      NOT NULL DEFAULT 0,
    bill_refunded_fen    bigint      NOT NULL DEFAULT 0,
    books_payments       bigint      NOT NULL DEFAULT 0,
    books_paid_fen       bigint      NOT NULL DEFAULT 0,
    books_refunds        bigint      NOT NULL DEFAULT 0,
    books_refunded_fen   bigint      NOT NULL DEFAULT 0,
    CONSTRAINT book_days_pk PRIMARY KEY (bill_date)
);

CREATE TABLE book_differences (
    bill_date    date        NOT NULL CONSTRAINT book_differences_day_fk REFERENCES book_days,
    kind         text        NOT NULL,
    -- WeChat's number of a payment, our number of a refund.
    number       text        NOT NULL,
    remedy       text        NOT NULL,
    -- As the bill spells it: it may be no order of ours, so it is no foreign key.
    order_id     text        NOT NULL,
    bill_fen     bigint,
    books_fen    bigint,
    bill_state   text,
    books_state  text,
    found_at     timestamptz NOT NULL,
    -- When the day was last compared and it was still there.
    seen_at      timestamptz NOT NULL,
    settled_at   timestamptz,
    -- However often a day is compared, a fact differs once.
    CONSTRAINT book_differences_pk PRIMARY KEY (bill_date, kind, number),
    CONSTRAINT book_differences_remedy CHECK (remedy IN ('heal', 'case'))
);

-- What still differs: counted with each day, and looked for to see whether it healed.
CREATE INDEX book_differences_standing ON book_differences (bill_date, remedy) WHERE settled_at IS NULL;

-- A day's facts of ours, without reading the years.
CREATE INDEX payment_transactions_by_day ON payment_transactions (success_time);
CREATE INDEX refunds_by_day ON refunds (sent_at) WHERE sent_at IS NOT NULL;
