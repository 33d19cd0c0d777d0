-- The rules under which a session is sold and given back. Each session keeps its own; the settings give the defaults of
-- the doors that add sessions, the defaults here are for sessions from before and for rows written by hand.
ALTER TABLE course_schedules
    -- Null: orders are taken at once.
    ADD COLUMN sale_opens_at timestamptz,
    -- Null: the start, also when the start is moved. Holds and payments end then at the latest.
    ADD COLUMN sale_closes_at timestamptz,
    -- Held and booked seats of one customer.
    ADD COLUMN seats_per_customer integer NOT NULL DEFAULT 4,
    -- What customers take back by themselves: [{"until_hours_before": 24, "percent": 100}, …], the earliest first.
    ADD COLUMN refund_rules jsonb NOT NULL DEFAULT '[{"until_hours_before": 24, "percent": 100}]',
    -- A class that has begun can never be paid for.
    ADD CONSTRAINT course_schedules_sale_closes_by_the_start CHECK (sale_closes_at <= starts_at),
    ADD CONSTRAINT course_schedules_sale_opens_before_it_closes
        CHECK (sale_opens_at < sale_closes_at OR sale_closes_at IS NULL AND sale_opens_at < starts_at),
    ADD CONSTRAINT course_schedules_seats_per_customer_sane CHECK (seats_per_customer BETWEEN 1 AND 100000),
    ADD CONSTRAINT course_schedules_refund_rules_list CHECK (jsonb_typeof(refund_rules) = 'array');
