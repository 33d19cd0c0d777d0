-- Errors over time, found without reading everything that went right.
CREATE INDEX order_trace_errors ON order_trace (at)
    WHERE kind = 'message' AND outcome IN ('retried', 'parked') OR kind = 'wechat' AND outcome <> 'ok';
