-- A person ends a refund by closing the case about it, and a case that was closed opens again when its cause returns.

-- Given back outside WeChat, or not owed. Both are final.
ALTER TYPE refund_status ADD VALUE 'paid_by_hand';
ALTER TYPE refund_status ADD VALUE 'not_owed';

ALTER TABLE refunds
    -- Number of the receipt of a refund that was paid by hand.
    ADD COLUMN receipt text;

ALTER TABLE cases
    -- How it was closed before it opened again, oldest first: {opened_at, closed_at, closed_by, resolution}.
    ADD COLUMN earlier jsonb NOT NULL DEFAULT '[]';

-- Asked for each refund that is about to be sent.
CREATE INDEX cases_open_by_subject ON cases (subject) WHERE status = 'open';

-- Earlier releases left a refund as it was when the case about it was closed, and sent it again. What became of the money
-- is not in the books: the case opens again, so that a person ends the refund as paid by hand or as not owed. Until then
-- it is not sent. One that was sent while its case was open counts from now on, too.
UPDATE cases c
   SET status = 'open', opened_at = now(), closed_at = NULL, closed_by = NULL, resolution = NULL,
       earlier = jsonb_build_array(jsonb_build_object('opened_at', c.opened_at, 'closed_at', c.closed_at,
                                                      'closed_by', c.closed_by, 'resolution', c.resolution))
  FROM refunds r
 WHERE r.refund_id = c.subject AND r.status IN ('requested', 'abnormal')
   AND c.kind IN ('refund_refused', 'payer_account_abnormal', 'refund_abnormal')
   AND (c.status = 'closed' OR r.sent_at > c.opened_at);

-- Operators decide under an account that writes neither orders nor their audit log (src/store/rights.sql). For exactly
-- this deed it borrows the owner's right: a refund that is owed and that an open case is about ends, the order's sums
-- follow, and the audit row says who and why.

-- The order is locked as by every worker: sending a refund and ending it exclude each other.
CREATE FUNCTION payment_order_lock(which text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT order_id FROM payment_orders WHERE order_id = which FOR UPDATE $$;

CREATE FUNCTION refund_end_by_person(
    which text, becomes text, its_receipt text, order_becomes order_status, moment timestamptz,
    its_event text, its_actor text, its_reason text, its_before jsonb, its_after jsonb, its_hash bytea
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    refund refunds;
    paid_order payment_orders;
    by_hand boolean := becomes = 'paid_by_hand';
BEGIN
    SELECT * INTO STRICT paid_order FROM payment_orders
     WHERE order_id = (SELECT r.order_id FROM refunds r WHERE r.refund_id = which) FOR UPDATE;
    SELECT * INTO STRICT refund FROM refunds WHERE refund_id = which FOR UPDATE;
    IF becomes NOT IN ('paid_by_hand', 'not_owed') OR by_hand <> (its_receipt IS NOT NULL)
        OR refund.status NOT IN ('requested', 'processing', 'abnormal')
        OR NOT (order_becomes = paid_order.status
                OR paid_order.status = 'refunding' AND order_becomes IN ('refunded', 'cancelled'))
        OR its_actor NOT LIKE 'operator:%' OR its_event NOT IN ('refund_paid_by_hand', 'refund_not_owed')
        OR NOT EXISTS (SELECT FROM cases c WHERE c.subject = which AND c.status = 'open')
    THEN
        RAISE EXCEPTION 'no open case lets a person end refund % this way', which USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE refunds SET status = becomes::refund_status, receipt = its_receipt, next_check_at = NULL, updated_at = now()
     WHERE refund_id = which;
    INSERT INTO payment_audit_log (order_id, version, at, event, from_status, to_status, actor, reason, before, after,
                                   prev_hash, hash)
    VALUES (paid_order.order_id, paid_order.version + 1, moment, its_event, paid_order.status, order_becomes, its_actor,
            its_reason, its_before, its_after, paid_order.audit_head, its_hash);
    UPDATE payment_orders
       SET status = order_becomes, version = version + 1, audit_head = its_hash, updated_at = now(),
           refund_promised_fen = refund_promised_fen - CASE WHEN by_hand THEN 0 ELSE refund.amount_fen END,
           refunded_fen = refunded_fen + CASE WHEN by_hand THEN refund.amount_fen ELSE 0 END
     WHERE order_id = paid_order.order_id;
    IF by_hand THEN
        INSERT INTO notifications (order_id, kind) VALUES (paid_order.order_id, 'refunded') ON CONFLICT DO NOTHING;
    END IF;
END $$;
