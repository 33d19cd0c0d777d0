-- A partition of the audit log can be named and emptied by itself: PostgreSQL hands the row triggers of
-- a partitioned table down to its partitions, but not those of a whole statement, as TRUNCATE is.

CREATE OR REPLACE FUNCTION audit_log_make_partitions(ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    name  text;
BEGIN
    FOR i IN 0..ahead LOOP
        name := 'payment_audit_log_' || to_char(month, 'YYYY_MM');
        -- A trigger needs a lock that writers feel: only for a partition that nobody writes to yet.
        IF to_regclass(name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF payment_audit_log FOR VALUES FROM (%L) TO (%L)',
                name,
                (month::timestamp AT TIME ZONE 'UTC'),
                ((month + interval '1 month')::timestamp AT TIME ZONE 'UTC'));
            PERFORM audit_log_guard(name::regclass);
        END IF;
        month := (month + interval '1 month')::date;
    END LOOP;
END $$;

CREATE FUNCTION audit_log_guard(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER payment_audit_log_no_truncate BEFORE TRUNCATE ON %s
             FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()', partition);
END $$;

SELECT audit_log_guard(inhrelid) FROM pg_inherits WHERE inhparent = 'payment_audit_log'::regclass;
