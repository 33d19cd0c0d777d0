-- What WeChat took and gave back, what it told us, and what needs a person.

CREATE TYPE transaction_status AS ENUM ('settled', 'mismatched');

CREATE TABLE payment_transactions (
    -- WeChat's number of the payment; the business key of "this money was recorded".
    transaction_id  text               NOT NULL,
    order_id        text               NOT NULL CONSTRAINT payment_transactions_order_fk REFERENCES payment_orders,
    -- `mismatched`: amount, currency, mchid or appid are not the order's. Stored, never settles.
    status          transaction_status NOT NULL,
    total_fen       bigint             NOT NULL,
    payer_total_fen bigint,
    currency        text               NOT NULL,
    trade_type      text               NOT NULL,
    bank_type       text,
    mchid           text               NOT NULL,
    appid           text               NOT NULL,
    success_time    timestamptz        NOT NULL,
    -- `callback`, `query` or `bill`: how we came to know.
    learned_by      text               NOT NULL,
    wechat_request_id text,
    created_at      timestamptz        NOT NULL DEFAULT now(),
    CONSTRAINT payment_transactions_pk PRIMARY KEY (transaction_id),
    CONSTRAINT payment_transactions_total_positive CHECK (total_fen > 0)
);
-- One order is paid once: a second settled transaction for it cannot be stored.
CREATE UNIQUE INDEX payment_transactions_one_settled_per_order
    ON payment_transactions (order_id) WHERE status = 'settled';
CREATE INDEX payment_transactions_by_order ON payment_transactions (order_id);

-- Every callback that proved to be WeChat's, once, whatever it led to.
CREATE TABLE wechat_callbacks (
    notification_id text        NOT NULL,
    event_type      text        NOT NULL,
    out_trade_no    text        NOT NULL,
    -- `settled`, `repeated`, `mismatched`, `unknown_order`, `ignored`
    outcome         text        NOT NULL,
    request_id      text,
    received_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT wechat_callbacks_pk PRIMARY KEY (notification_id)
);
CREATE INDEX wechat_callbacks_by_order ON wechat_callbacks (out_trade_no, received_at);

CREATE TYPE refund_status AS ENUM ('requested', 'processing', 'succeeded', 'abnormal', 'closed');

CREATE TABLE refunds (
    -- WeChat's out_refund_no is the same text: one number per business refund, for ever.
    refund_id        text          NOT NULL,
    order_id         text          NOT NULL CONSTRAINT refunds_order_fk REFERENCES payment_orders,
    status           refund_status NOT NULL,
    amount_fen       bigint        NOT NULL,
    reason           text          NOT NULL,
    requested_by     text          NOT NULL,
    wechat_refund_id text,
    -- Set only when WeChat closed the first number: then, and only then, a new one follows it.
    replaces         text          CONSTRAINT refunds_replaces_fk REFERENCES refunds,
    next_check_at    timestamptz,
    created_at       timestamptz   NOT NULL DEFAULT now(),
    updated_at       timestamptz   NOT NULL DEFAULT now(),
    succeeded_at     timestamptz,
    CONSTRAINT refunds_pk PRIMARY KEY (refund_id),
    CONSTRAINT refunds_amount_positive CHECK (amount_fen > 0),
    CONSTRAINT refunds_wechat_id_unique UNIQUE (wechat_refund_id),
    CONSTRAINT refunds_replaced_once UNIQUE (replaces)
);
CREATE INDEX refunds_by_order ON refunds (order_id, created_at);
CREATE INDEX refunds_open ON refunds (next_check_at) WHERE status IN ('requested', 'processing');

CREATE TYPE case_status AS ENUM ('open', 'closed');

-- Money or a fact that needs a person.
CREATE TABLE cases (
    case_id      uuid        NOT NULL DEFAULT gen_random_uuid(),
    kind         text        NOT NULL,
    -- The same fact opens one case, however often it is seen.
    subject      text        NOT NULL,
    -- Null when WeChat names an order that is not ours.
    order_id     text        CONSTRAINT cases_order_fk REFERENCES payment_orders,
    money_fen    bigint      NOT NULL DEFAULT 0,
    details      jsonb       NOT NULL DEFAULT '{}',
    status       case_status NOT NULL DEFAULT 'open',
    opened_at    timestamptz NOT NULL DEFAULT now(),
    closed_at    timestamptz,
    closed_by    text,
    resolution   text,
    CONSTRAINT cases_pk PRIMARY KEY (case_id),
    CONSTRAINT cases_one_per_subject UNIQUE (kind, subject)
);
CREATE INDEX cases_open ON cases (opened_at) WHERE status = 'open';
CREATE INDEX cases_by_order ON cases (order_id);
