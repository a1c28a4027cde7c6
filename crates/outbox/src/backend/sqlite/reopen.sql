-- $1 what became of the rows, $2 now
-- A refund that found no sale goes again once its sale is recorded, and alike.
UPDATE referral_outbox AS w SET
    state = CASE WHEN w.reduced_at IS NULL THEN 'waiting' ELSE 'failed' END,
    finished_at = CASE WHEN w.reduced_at IS NOT NULL THEN $2 END,
    reason = CASE WHEN w.reduced_at IS NULL THEN w.reason
        ELSE 'its content was removed before its sale was credited: enter it at the platform by hand, and settle it' END,
    -- Whoever paid as a guest may be known by now.
    report = CASE WHEN json_extract(w.report, '$.customer') IS NOT NULL AND saved.customer IS NOT NULL
        THEN json_set(w.report, '$.customer', saved.customer) ELSE w.report END,
    outcome = NULL, attempts = 0, not_before = $2
FROM (
    SELECT o.id, CASE WHEN o.kind = 'sale' THEN json_extract(o.report, '$.customer') END AS customer
    FROM json_each($1) AS j JOIN referral_outbox AS o ON o.seq = json_extract(j.value, '$.seq')
    WHERE o.outcome IN ('recorded', 'duplicate')
) AS saved
WHERE w.depends_on = saved.id AND w.outcome = 'not_attributed' AND w.state = 'done'
    AND (w.reduced_at IS NULL OR w.kind IN ('refund', 'refund_reversal'))
