-- Sessions and courses hold only what every reader can bear. Earlier releases took the years 0000 and 9999, which no
-- RFC 3339 writer and no message can show at every offset, any price up to 2^63-1, and titles with line breaks and
-- control characters: one such row made every list of sessions fail.
--
-- The constraints come first and are not validated against old rows: nothing can be written between them and the
-- healing below, and each statement needs its short lock only. 0029 validates them.
-- Behind a long reader the migration gives up instead of holding up every booking; it can be run again.
SET LOCAL lock_timeout = '10s';

ALTER TABLE course_schedules
    ADD CONSTRAINT course_schedules_starts_in_calendar
        CHECK (starts_at >= '2000-01-01 00:00:00+00' AND starts_at < '2200-01-01 00:00:00+00') NOT VALID,
    -- A session with a greater price keeps it, since orders name it, and can only be cancelled: that is the one change
    -- this constraint lets through.
    ADD CONSTRAINT course_schedules_price_bounded CHECK (price_fen <= 100000000 OR status = 'cancelled') NOT VALID;

-- The nearest time that can be shown: a session of the year 0000 is over, one of the year 9999 is far away, and both
-- can be listed and cancelled like any other.
UPDATE course_schedules
   SET starts_at = least(greatest(starts_at, '2000-01-01 00:00:00+00'), '2199-12-31 23:59:59.999999+00')
 WHERE NOT (starts_at >= '2000-01-01 00:00:00+00' AND starts_at < '2200-01-01 00:00:00+00');

-- A title is one line: no control characters, no line or paragraph separators, no bidirectional controls.
UPDATE courses
   SET title = coalesce(
           nullif(trim(regexp_replace(title, '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+', ' ', 'g')), ''),
           course_id)
 WHERE title ~ '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]' OR title ~ '^\s*$';
ALTER TABLE courses
    ADD CONSTRAINT courses_title_is_a_line
        CHECK (title !~ '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]'
               AND title !~ '^\s*$') NOT VALID;
