-- Who did what to an order, when, why, and what it was before and after. Append-only.

CREATE TABLE payment_audit_log (
    order_id    text         NOT NULL,
    -- The order's version that this row describes: 1, 2, 3 … without gaps.
    version     integer      NOT NULL,
    at          timestamptz  NOT NULL,
    event       text         NOT NULL,
    from_status order_status,
    to_status   order_status NOT NULL,
    -- `worker:seats`, `user:…`, `operator:…`
    actor       text         NOT NULL,
    reason      text,
    request_id  text,
    before      jsonb,
    after       jsonb        NOT NULL,
    -- SHA-256 over the previous row's hash and this row: a changed or missing row breaks the chain.
    prev_hash   bytea        NOT NULL,
    hash        bytea        NOT NULL,
    -- The month comes first only because a partitioned key must contain the partition column.
    CONSTRAINT payment_audit_log_pk PRIMARY KEY (order_id, version, at)
) PARTITION BY RANGE (at);

CREATE INDEX payment_audit_log_by_time ON payment_audit_log (at);

-- Rows never wait for a partition: what no month takes lands here and is seen by `verify`.
CREATE TABLE payment_audit_log_rest PARTITION OF payment_audit_log DEFAULT;

-- Makes the partitions of this month and of the `ahead` following ones. Called by `migrate` and by the
-- daily housekeeping, so that a month is there long before its first row.
CREATE FUNCTION audit_log_make_partitions(ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR i IN 0..ahead LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF payment_audit_log FOR VALUES FROM (%L) TO (%L)',
            'payment_audit_log_' || to_char(month, 'YYYY_MM'),
            (month::timestamp AT TIME ZONE 'UTC'),
            ((month + interval '1 month')::timestamp AT TIME ZONE 'UTC'));
        month := (month + interval '1 month')::date;
    END LOOP;
END $$;

SELECT audit_log_make_partitions(3);

-- Append-only for everybody, also for the owner of the table. Retention drops whole partitions,
-- which no row trigger sees.
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'payment_audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER payment_audit_log_append_only
    BEFORE UPDATE OR DELETE ON payment_audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER payment_audit_log_no_truncate
    BEFORE TRUNCATE ON payment_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
