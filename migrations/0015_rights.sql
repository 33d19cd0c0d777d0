-- Processes work under roles that own nothing (src/store/rights.sql says what each may do). Two acts of the daily
-- housekeeping take an owner's right, and `reconcile` borrows it for exactly these: months ahead are made, and the
-- trace's old months are let go. Months of the audit log can be dropped by their owner alone.

-- pg_temp last: else a temporary table of the caller's would be taken for ours.
ALTER FUNCTION audit_log_make_partitions(integer) SECURITY DEFINER SET search_path = public, pg_temp;
ALTER FUNCTION order_trace_keep(integer, integer) SECURITY DEFINER SET search_path = public, pg_temp;
