-- Money that moves at WeChat without us: staff refund in the merchant platform.

-- What WeChat reported of refunds that none of ours asked for, and that names an order of ours. Kept as it came: the
-- payment may not be known yet, and then it counts once the payment is.
CREATE TABLE wechat_refunds (
    -- As WeChat spells it: no number of ours.
    out_refund_no  text        NOT NULL,
    order_id       text        NOT NULL CONSTRAINT wechat_refunds_order_fk REFERENCES payment_orders,
    -- The payment that it is of; null where WeChat left it out.
    transaction_id text,
    refund_fen     bigint      NOT NULL,
    -- `processing`, `success`, `abnormal`, `closed`
    standing       text        NOT NULL,
    -- The refund of the books that it became; null while it could not be counted.
    refund_id      text        CONSTRAINT wechat_refunds_refund_fk REFERENCES refunds,
    -- The signed facts as a message carries them.
    facts          jsonb       NOT NULL,
    seen_at        timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT wechat_refunds_pk PRIMARY KEY (out_refund_no),
    CONSTRAINT wechat_refunds_positive CHECK (refund_fen > 0)
);
-- What a payment that becomes known must count.
CREATE INDEX wechat_refunds_not_counted ON wechat_refunds (order_id) WHERE refund_id IS NULL;

-- WeChat's number of a refund that is not ours; of ours it is the refund's id.
ALTER TABLE refunds ADD COLUMN out_refund_no text;
CREATE UNIQUE INDEX refunds_by_foreign_number ON refunds (out_refund_no) WHERE out_refund_no IS NOT NULL;
CREATE INDEX refunds_by_wechat_number ON refunds (coalesce(out_refund_no, refund_id));

-- A number could grow beyond the 64 characters that WeChat takes, and no release could read such a row: WeChat has never
-- heard of it. It gets the number that `RefundId::successor` gives now.
UPDATE refunds
   SET refund_id = left(split_part(refund_id, '-', 1), 32) || '-h'
                   || left(encode(sha256(convert_to(regexp_replace(refund_id, '-n[0-9]+$', ''), 'UTF8')), 'hex'), 16)
                   || coalesce(substring(refund_id FROM '-n[0-9]{1,10}$'), '-n1')
 WHERE length(refund_id) > 64;
