//! The months of the audit log and of the trace, as a forgotten turn of a month would leave them.

/// Drops this month's and next month's partition, as if nobody had made them, and one of an old month is there to go.
pub(crate) const TURN_OF_THE_MONTH: &str = "
    DO $$ DECLARE month text; BEGIN
        FOREACH month IN ARRAY ARRAY[to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'),
                                     to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM')] LOOP
            EXECUTE format('DROP TABLE payment_audit_log_%s', month);
            EXECUTE format('DROP TABLE order_trace_%s', month);
        END LOOP;
        CREATE TABLE payment_audit_log_2020_01 PARTITION OF payment_audit_log
            FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-02-01 00:00:00+00');
        CREATE TABLE order_trace_2020_01 PARTITION OF order_trace
            FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-02-01 00:00:00+00');
    END $$";
