-- A new month of a partitioned table must not stop those who write to it. CREATE TABLE … PARTITION OF locks the whole table
-- against everybody, and waits for every reader first (pg_dump reads for as long as it takes): all bookings wait behind it.
-- Here the table is made by itself and attached: ATTACH locks the parent against other changes of its schema only, and the
-- default partition, which bookings do not touch, against everybody. Each lock is waited for half a second; the caller
-- tries again later, and has months for it.
--
-- And a default partition that holds a row of a month forbids to attach that month, for ever. Its rows are copied to the tables
-- of their months, in bounded sets while everybody works; then, under one short lock, the default partition is replaced by
-- an empty one. No row of the audit log is deleted for it: the table that held the copies' originals goes as a whole.

-- The table of a month, made and not attached. Of an empty table nobody knows, so nobody waits for these locks.
CREATE FUNCTION partition_table(parent regclass, month timestamp) RETURNS text LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
DECLARE
    name text := parent || '_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', name, parent);
        -- So that attaching needs not read it.
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT month_only CHECK (at >= %L AND at < %L)', name,
            month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        IF parent = 'payment_audit_log'::regclass THEN
            PERFORM audit_log_guard(name::regclass);
        END IF;
    END IF;
    RETURN name;
END $$;

CREATE FUNCTION partition_is_attached(name text) RETURNS boolean LANGUAGE sql STABLE
    SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(name))
$$;

CREATE FUNCTION partition_attach(parent regclass, month timestamp) RETURNS void LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
DECLARE
    name text := partition_table(parent, month);
BEGIN
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name,
        month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS month_only', name);
END $$;

-- Makes and attaches the months that are missing. One that the default partition holds rows of is left to
-- `audit_log_replace_rest`; it keeps none of the others from being attached.
CREATE OR REPLACE FUNCTION audit_log_make_partitions(ahead integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    month timestamp;
BEGIN
    -- Another process is at it.
    IF NOT pg_try_advisory_xact_lock(hashtext('holdfast partitions')) THEN
        RETURN;
    END IF;
    FOR i IN 0..ahead LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i);
        CONTINUE WHEN partition_is_attached('payment_audit_log_' || to_char(month, 'YYYY_MM'));
        CONTINUE WHEN EXISTS (SELECT FROM payment_audit_log_rest
            WHERE at >= month AT TIME ZONE 'UTC' AND at < (month + interval '1 month') AT TIME ZONE 'UTC');
        PERFORM partition_attach('payment_audit_log', month);
    END LOOP;
END $$;

-- Copies at most `most` rows of the default partition to the tables of their months. Returns how many; null when the default
-- partition is empty.
CREATE FUNCTION audit_log_copy_rest(most bigint) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    month  timestamp;
    copied bigint := 0;
    found_ bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('holdfast partitions'));
    IF NOT EXISTS (SELECT FROM payment_audit_log_rest) THEN
        RETURN NULL;
    END IF;
    FOR month IN SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC') FROM payment_audit_log_rest LOOP
        EXECUTE format('INSERT INTO %1$I SELECT r.* FROM payment_audit_log_rest r
                         WHERE r.at >= %2$L AND r.at < %3$L
                           AND NOT EXISTS (SELECT FROM %1$I m WHERE (m.order_id, m.version, m.at) = (r.order_id, r.version, r.at))
                         LIMIT %4$s',
            partition_table('payment_audit_log', month), month AT TIME ZONE 'UTC',
            (month + interval '1 month') AT TIME ZONE 'UTC', most - copied);
        GET DIAGNOSTICS found_ = ROW_COUNT;
        copied := copied + found_;
        EXIT WHEN copied >= most;
    END LOOP;
    RETURN copied;
END $$;

-- Puts an empty default partition in the place of one whose rows were copied, and attaches their months. `since`: rows from
-- then on may have come after they were copied, and are copied now. The whole log is locked meanwhile.
CREATE FUNCTION audit_log_replace_rest(since timestamptz) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    month  timestamp;
    months timestamp[];
    name   text;
    act    record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('holdfast partitions'));
    LOCK TABLE payment_audit_log IN ACCESS EXCLUSIVE MODE;
    SELECT array_agg(DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')) INTO months FROM payment_audit_log_rest;
    IF months IS NULL THEN
        RETURN;
    END IF;
    FOREACH month IN ARRAY months LOOP
        EXECUTE format('INSERT INTO %1$I SELECT r.* FROM payment_audit_log_rest r
                         WHERE r.at >= greatest(%2$L::timestamptz, $1) AND r.at < %3$L
                           AND NOT EXISTS (SELECT FROM %1$I m WHERE (m.order_id, m.version, m.at) = (r.order_id, r.version, r.at))',
            partition_table('payment_audit_log', month), month AT TIME ZONE 'UTC',
            (month + interval '1 month') AT TIME ZONE 'UTC') USING since;
    END LOOP;
    ALTER TABLE payment_audit_log DETACH PARTITION payment_audit_log_rest;
    ALTER TABLE payment_audit_log_rest RENAME TO payment_audit_log_copied;
    CREATE TABLE payment_audit_log_rest PARTITION OF payment_audit_log DEFAULT;
    PERFORM audit_log_guard('payment_audit_log_rest');
    -- `verify` reads it by its name.
    FOR act IN SELECT grantee::regrole AS role, privilege_type AS what
                 FROM pg_class, aclexplode(relacl)
                WHERE oid = 'payment_audit_log_copied'::regclass AND grantee <> 0 LOOP
        EXECUTE format('GRANT %s ON payment_audit_log_rest TO %s', act.what, act.role);
    END LOOP;
    FOREACH month IN ARRAY months LOOP
        name := 'payment_audit_log_' || to_char(month, 'YYYY_MM');
        IF NOT partition_is_attached(name) THEN
            PERFORM partition_attach('payment_audit_log', month);
        END IF;
    END LOOP;
    DROP TABLE payment_audit_log_copied;
END $$;

-- The same for the trace, which is no proof: its rows are moved.
CREATE FUNCTION order_trace_move_rest(most bigint) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    month timestamp;
    moved bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('holdfast partitions'));
    SELECT date_trunc('month', at AT TIME ZONE 'UTC') INTO month FROM order_trace_rest LIMIT 1;
    IF month IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('WITH moved AS (
                        DELETE FROM order_trace_rest WHERE ctid = ANY (ARRAY(
                            SELECT ctid FROM order_trace_rest WHERE at >= %L AND at < %L LIMIT %s)) RETURNING *)
                    INSERT INTO %I SELECT * FROM moved',
        month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC', most, partition_table('order_trace', month));
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END $$;

CREATE FUNCTION order_trace_make_partitions(ahead integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    month timestamp;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('holdfast partitions')) THEN
        RETURN;
    END IF;
    -- Also months that were made for rows of the default partition.
    FOR month IN
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i) FROM generate_series(0, ahead) i
         UNION
        SELECT to_date(right(relname, 7), 'YYYY_MM')::timestamp FROM pg_class
         WHERE relname ~ '^order_trace_[0-9]{4}_[0-9]{2}$' AND relkind = 'r' AND NOT relispartition
    LOOP
        CONTINUE WHEN partition_is_attached('order_trace_' || to_char(month, 'YYYY_MM'));
        -- Rows that came since the default partition was emptied go with the others.
        IF EXISTS (SELECT FROM order_trace_rest
            WHERE at >= month AT TIME ZONE 'UTC' AND at < (month + interval '1 month') AT TIME ZONE 'UTC') THEN
            LOCK TABLE order_trace_rest IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('WITH moved AS (DELETE FROM order_trace_rest WHERE at >= %L AND at < %L RETURNING *)
                            INSERT INTO %I SELECT * FROM moved',
                month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC', partition_table('order_trace', month));
        END IF;
        PERFORM partition_attach('order_trace', month);
    END LOOP;
END $$;

-- The months that are over by more than `keep` go. A step of its own: it locks the whole trace, and must not undo the other.
CREATE FUNCTION order_trace_let_go(keep integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'order_trace'::regclass AND c.relname ~ '^order_trace_[0-9]{4}_[0-9]{2}$'
           AND to_date(right(c.relname, 7), 'YYYY_MM')
               < date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => keep)
    LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END $$;

-- As the release before calls it.
CREATE OR REPLACE FUNCTION order_trace_keep(ahead integer, keep integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM order_trace_make_partitions(ahead);
    PERFORM order_trace_let_go(keep);
END $$;
