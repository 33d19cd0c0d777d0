-- What operators see and decide: the trace of an order, overrides, and what is left of audit rows whose time is over.

-- What happened around an order and stands in no other table: requests, messages, calls to WeChat. It makes a story
-- readable and proves nothing: processes write it in sets, late, without waiting for the disk, and rather lose a row
-- than hold up work. No foreign key, since a request is noted before its order is in the books.
CREATE TABLE order_trace (
    order_id    text        NOT NULL,
    at          timestamptz NOT NULL,
    -- `request`, `message`, `wechat`
    kind        text        NOT NULL,
    what        text        NOT NULL,
    outcome     text        NOT NULL,
    -- `user:…`, `operator:…`, `worker:…`
    who         text,
    request_id  text,
    took_ms     integer,
    details     jsonb
) PARTITION BY RANGE (at);
CREATE INDEX order_trace_by_order ON order_trace (order_id, at);
CREATE TABLE order_trace_rest PARTITION OF order_trace DEFAULT;

-- The partitions of this month and the `ahead` following ones, and no longer those that are over by more than `keep`
-- months: a trace binds nobody.
CREATE FUNCTION order_trace_keep(ahead integer, keep integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    month      timestamp;
    name       text;
BEGIN
    FOR i IN 0..ahead LOOP
        month := this_month + make_interval(months => i);
        name := 'order_trace_' || to_char(month, 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF order_trace FOR VALUES FROM (%L) TO (%L)',
                name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'order_trace'::regclass AND c.relname ~ '^order_trace_[0-9]{4}_[0-9]{2}$'
           AND to_date(right(c.relname, 7), 'YYYY_MM') < this_month - make_interval(months => keep)
    LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END $$;

CREATE TYPE override_action AS ENUM ('confirm', 'waive', 'release', 'refund', 'record_payment', 'close');
CREATE TYPE override_status AS ENUM ('proposed', 'approved', 'done', 'refused', 'withdrawn');

-- An operator's decision about one order, from the proposal to what came of it.
CREATE TABLE order_overrides (
    -- Derived from (operator, Idempotency-Key): the same wish twice is one override.
    override_id uuid            NOT NULL,
    order_id    text            NOT NULL CONSTRAINT order_overrides_order_fk REFERENCES payment_orders,
    action      override_action NOT NULL,
    -- Of a refund (null: all that is left) and of a recorded payment.
    amount_fen  bigint,
    -- The number of a recorded payment's receipt.
    receipt     text,
    reason      text            NOT NULL,
    -- What the decision is about; above the configured sum a second person must agree.
    money_fen   bigint          NOT NULL,
    status      override_status NOT NULL,
    request_id  text            NOT NULL,
    proposed_by text            NOT NULL,
    proposed_at timestamptz     NOT NULL DEFAULT now(),
    -- Who agreed, or withdrew it.
    decided_by  text,
    decided_at  timestamptz,
    -- What came of it, in words.
    outcome     text,
    settled_at  timestamptz,
    swept_at    timestamptz,
    CONSTRAINT order_overrides_pk PRIMARY KEY (override_id),
    CONSTRAINT order_overrides_amount_positive CHECK (amount_fen > 0),
    CONSTRAINT order_overrides_receipt_of_payment CHECK ((action = 'record_payment') = (receipt IS NOT NULL)),
    CONSTRAINT order_overrides_settled_says_what
        CHECK ((status IN ('done', 'refused')) = (settled_at IS NOT NULL AND outcome IS NOT NULL)),
    -- Two persons are two: nobody decides about their own proposal, except to withdraw it.
    CONSTRAINT order_overrides_two_persons CHECK (status = 'withdrawn' OR decided_by <> proposed_by)
);
CREATE INDEX order_overrides_by_order ON order_overrides (order_id, proposed_at);
-- One decision at a time about an order.
CREATE UNIQUE INDEX order_overrides_one_open ON order_overrides (order_id) WHERE status IN ('proposed', 'approved');
-- Sweep: decided, and nothing came of it yet.
CREATE INDEX order_overrides_approved ON order_overrides (proposed_at) WHERE status = 'approved';
CREATE INDEX order_overrides_by_time ON order_overrides (proposed_at);

-- Where an order's audit rows were when their month was pruned: the chain goes on from here.
CREATE TABLE audit_log_pruned (
    order_id    text         NOT NULL,
    version     integer      NOT NULL,
    to_status   order_status NOT NULL,
    hash        bytea        NOT NULL,
    pruned_at   timestamptz  NOT NULL DEFAULT now(),
    CONSTRAINT audit_log_pruned_pk PRIMARY KEY (order_id)
);
