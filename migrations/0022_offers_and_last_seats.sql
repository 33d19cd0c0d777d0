-- Offers that name what led to them, and the moment at which a session sells out.

-- The order whose seat became this offer; null when it followed from a change of the line. A worker derives its messages
-- from the offers that its own message led to, not from all that are open in the session.
ALTER TABLE waitlist ADD COLUMN freed_by text CONSTRAINT waitlist_freed_by_fk REFERENCES payment_orders;
CREATE INDEX waitlist_freed_by ON waitlist (freed_by) WHERE freed_by IS NOT NULL;

-- An offer that could not be made is undone alone, and the next in line is offered the seat. The place stays, and says why.
ALTER TABLE waitlist
    ADD COLUMN offer_failed_at timestamptz,
    ADD COLUMN offer_error text;

-- Whether the session had no free seat left when this reservation was made: the session sells out once, and the lapsed
-- orders are closed by what that one order leads to, not by each order that is refused afterwards.
ALTER TABLE seat_reservations ADD COLUMN took_last boolean NOT NULL DEFAULT false;
