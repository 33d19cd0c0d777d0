-- Validates what 0028 added, in a transaction of its own: validation reads the tables under a lock that stops no
-- reader and no booking. The price is left out: a session of an earlier release may keep one that is out of bounds.
ALTER TABLE course_schedules VALIDATE CONSTRAINT course_schedules_starts_in_calendar;
ALTER TABLE courses VALIDATE CONSTRAINT courses_title_is_a_line;
