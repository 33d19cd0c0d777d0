-- What each kind of process may do in this database; given by its owner after every migration, from nothing, in one
-- transaction. Of the roles of deploy/postgresql/roles.sql only those that exist are given anything: where all
-- processes work as the owner, nobody is given anything.
--
-- A new table can be read by all and written by nobody until it has a line here.
DO $rights$
DECLARE
    kinds CONSTANT text[] := ARRAY['ingress', 'desk', 'seats', 'prepay', 'payments', 'expiry', 'refunds', 'notifications',
        'reconcile'];
    act record;
BEGIN
    -- Two releases that migrate at once would both write the same rows of the catalogue.
    PERFORM pg_advisory_xact_lock(hashtext('holdfast rights'));

    FOR act IN SELECT kind, rolname AS role FROM unnest(kinds) AS kind JOIN pg_roles ON rolname = 'holdfast_' || kind LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', act.role);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', act.role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA public TO %I', act.role);
        -- What holds personal data, sealed as it is, is read by those who use it alone.
        IF act.kind NOT IN ('seats', 'prepay', 'notifications') THEN
            EXECUTE format('REVOKE SELECT ON users FROM %I', act.role);
        END IF;
        IF act.kind NOT IN ('desk', 'reconcile') THEN
            EXECUTE format('REVOKE SELECT ON dead_letters FROM %I', act.role);
        END IF;
    END LOOP;

    -- Locking a row takes the right to update some column of it: `created_at` decides nothing.
    FOR act IN
        SELECT what, name, rolname AS role
          FROM (VALUES
            ('INSERT', 'order_trace',
                'ingress desk seats prepay payments expiry refunds notifications reconcile'),

            -- An order and its seat.
            ('INSERT, UPDATE', 'users', 'seats'),
            ('INSERT', 'payment_orders', 'seats expiry refunds payments'),
            ('UPDATE', 'payment_orders', 'seats prepay payments expiry refunds'),
            ('INSERT', 'payment_audit_log', 'seats prepay payments expiry refunds'),
            ('INSERT, UPDATE', 'seat_reservations', 'seats payments expiry refunds'),
            ('INSERT, DELETE', 'free_seats', 'seats payments expiry refunds'),
            ('INSERT, UPDATE', 'bookings', 'payments expiry refunds'),
            ('INSERT', 'waitlist', 'seats'),
            ('UPDATE', 'waitlist', 'seats payments expiry refunds'),
            ('UPDATE (created_at)', 'course_schedules', 'seats payments expiry refunds'),

            -- Money, and what is told of it.
            ('INSERT, UPDATE', 'payment_transactions', 'payments expiry'),
            ('INSERT', 'wechat_callbacks', 'payments refunds'),
            ('INSERT', 'refunds', 'payments expiry refunds'),
            ('UPDATE', 'refunds', 'refunds'),
            ('INSERT, UPDATE', 'wechat_refunds', 'refunds'),
            ('INSERT', 'cases', 'prepay payments expiry refunds reconcile'),
            ('UPDATE', 'cases', 'prepay payments expiry refunds reconcile desk'),
            ('INSERT', 'notifications', 'seats prepay payments expiry refunds'),
            ('UPDATE', 'notifications', 'notifications'),

            -- What an operator decides, and the worker that does it.
            ('INSERT', 'courses', 'desk'),
            ('INSERT', 'course_schedules', 'desk'),
            ('UPDATE (status)', 'course_schedules', 'desk'),
            ('INSERT, UPDATE (rate, asked_through)', 'schedule_cancellations', 'desk'),
            ('UPDATE (left_at)', 'waitlist', 'desk'),
            ('INSERT', 'free_seats', 'desk'),
            ('INSERT', 'order_overrides', 'desk'),
            ('UPDATE (created_at)', 'payment_orders', 'desk'),
            -- A refund that one operator may not decide alone becomes a proposal.
            ('INSERT', 'order_overrides', 'refunds'),
            ('UPDATE', 'order_overrides', 'desk expiry'),
            ('INSERT, UPDATE', 'dead_letters', 'desk reconcile'),
            ('INSERT, UPDATE', 'dead_letter_readings', 'desk reconcile'),
            ('INSERT, UPDATE', 'dead_letter_replays', 'desk reconcile'),
            ('INSERT, UPDATE', 'dead_letter_replay_items', 'desk reconcile'),
            ('INSERT', 'dead_letter_notes', 'desk'),
            ('INSERT', 'dead_letter_acts', 'desk reconcile'),

            -- What `reconcile` puts back, and WeChat's bill.
            ('UPDATE (swept_at)', 'payment_orders', 'reconcile'),
            ('UPDATE (swept_at)', 'refunds', 'reconcile'),
            ('UPDATE (swept_at)', 'notifications', 'reconcile'),
            ('UPDATE (swept_at)', 'order_overrides', 'reconcile'),
            ('UPDATE (asked_through, asked_at, finished_at)', 'schedule_cancellations', 'reconcile'),
            ('INSERT, UPDATE', 'book_days', 'reconcile'),
            ('INSERT, UPDATE', 'book_differences', 'reconcile')
          ) AS given (what, name, kinds_of_it)
          CROSS JOIN unnest(string_to_array(kinds_of_it, ' ')) AS kind
          JOIN pg_roles ON rolname = 'holdfast_' || kind
    LOOP
        EXECUTE format('GRANT %s ON %I TO %I', act.what, act.name, act.role);
    END LOOP;

    -- A refund that a person ends, through these alone.
    REVOKE EXECUTE ON FUNCTION payment_order_lock(text),
        refund_end_by_person(text, text, text, order_status, timestamptz, text, text, text, jsonb, jsonb, bytea) FROM PUBLIC;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast_desk') THEN
        GRANT EXECUTE ON FUNCTION payment_order_lock(text),
            refund_end_by_person(text, text, text, order_status, timestamptz, text, text, text, jsonb, jsonb, bytea)
            TO holdfast_desk;
    END IF;

    -- They run with their owner's rights. Not in the migration that makes them so: a restored backup comes without rights.
    REVOKE EXECUTE ON FUNCTION audit_log_make_partitions(integer), order_trace_keep(integer, integer),
        audit_log_copy_rest(bigint), audit_log_replace_rest(timestamptz), order_trace_move_rest(bigint),
        order_trace_make_partitions(integer), order_trace_let_go(integer) FROM PUBLIC;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast_reconcile') THEN
        GRANT EXECUTE ON FUNCTION audit_log_make_partitions(integer), order_trace_keep(integer, integer),
            audit_log_copy_rest(bigint), audit_log_replace_rest(timestamptz), order_trace_move_rest(bigint),
            order_trace_make_partitions(integer), order_trace_let_go(integer) TO holdfast_reconcile;
        -- A bill is compared in temporary tables.
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO holdfast_reconcile', current_database());
    END IF;
END $rights$;
