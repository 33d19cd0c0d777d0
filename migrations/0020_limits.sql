-- What a customer holds and owes, and whether they were told that a session is full, is counted before each seat that
-- they are given: by this index alone, however many orders of theirs have ended.
CREATE INDEX payment_orders_held_by_user ON payment_orders (user_id, schedule_id)
    WHERE status IN ('held', 'awaiting_payment', 'lapsed', 'confirmed', 'rejected');
