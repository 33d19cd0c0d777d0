-- When WeChat was last looked at for an unpaid order by the timer that repeats itself. A timer can be in its queue twice: its
-- message was delivered twice, or a queue was lost and the timers were set anew. Each copy goes on, so that none that gets
-- lost ends the looks, and only the first one of a period looks.
ALTER TABLE payment_orders ADD COLUMN looked_at timestamptz;
