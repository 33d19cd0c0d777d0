-- Courses, their sessions, the seats that are free, and the people who book them.

CREATE TABLE courses (
    course_id   text        NOT NULL,
    title       text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT courses_pk PRIMARY KEY (course_id),
    CONSTRAINT courses_id_form CHECK (course_id ~ '^[!-~]{1,64}$'),
    CONSTRAINT courses_title_length CHECK (length(title) BETWEEN 1 AND 100)
);

CREATE TYPE schedule_status AS ENUM ('open', 'cancelled');

CREATE TABLE course_schedules (
    schedule_id uuid            NOT NULL,
    -- RESTRICT (the default) everywhere: what money hangs on is never deleted by cascade.
    course_id   text            NOT NULL CONSTRAINT course_schedules_course_fk REFERENCES courses,
    starts_at   timestamptz     NOT NULL,
    price_fen   bigint          NOT NULL,
    capacity    integer         NOT NULL,
    status      schedule_status NOT NULL DEFAULT 'open',
    created_at  timestamptz     NOT NULL DEFAULT now(),
    CONSTRAINT course_schedules_pk PRIMARY KEY (schedule_id),
    CONSTRAINT course_schedules_price_positive CHECK (price_fen > 0),
    CONSTRAINT course_schedules_capacity_sane CHECK (capacity BETWEEN 1 AND 100000)
);

-- The list of sessions is read by time, and by course ("other sessions, soonest first").
CREATE INDEX course_schedules_by_time ON course_schedules (starts_at, schedule_id);
CREATE INDEX course_schedules_by_course ON course_schedules (course_id, starts_at, schedule_id);

-- A row is a free seat. Taking a seat deletes its row, freeing it brings the row back, so that finding
-- one costs the same in a room of 20 and of 20 000, empty or nearly sold out, and so that a row lock on
-- the seat itself settles who gets it.
CREATE TABLE free_seats (
    schedule_id uuid    NOT NULL CONSTRAINT free_seats_schedule_fk REFERENCES course_schedules,
    seat_no     integer NOT NULL,
    CONSTRAINT free_seats_pk PRIMARY KEY (schedule_id, seat_no),
    CONSTRAINT free_seats_counted_from_one CHECK (seat_no >= 1)
);

CREATE TABLE users (
    -- The token's `sub`: the frontend's own name for the customer.
    user_id     text        NOT NULL,
    -- WeChat's name for them, sealed (AES-256-GCM, key outside the database), since it is personal data.
    openid      bytea,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pk PRIMARY KEY (user_id),
    CONSTRAINT users_id_form CHECK (user_id ~ '^[!-~]{1,128}$')
);
