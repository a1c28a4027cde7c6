-- $1 finished before, relative to now; $2 clock offset
UPDATE referral_outbox SET
    report = jsonb_strip_nulls(jsonb_build_object(
        'version', report->'version', 'kind', report->'kind',
        'order', report->'order', 'refund', report->'refund',
        'subscription', report->'subscription', 'update', report->'update',
        'amount', CASE WHEN kind <> 'sale' AND report->'refund' IS NULL THEN report->'amount' END,
        'customer', CASE WHEN kind IN ('sign_up', 'cancellation') THEN report->'customer' END,
        'email', CASE WHEN kind IN ('sign_up', 'cancellation') AND report->'customer' IS NULL
            THEN report->'email' END,
        'credit', CASE WHEN has_credit THEN jsonb_build_object('reduced', true, 'reference',
            -- For an erasure, as long as the customer is there.
            CASE WHEN kind = 'sign_up' THEN report->'credit'->'reference' END) END)),
    next_report = NULL, details = NULL,
    history = coalesce((SELECT jsonb_agg(attempt - 'details' ORDER BY place)
        FROM jsonb_array_elements(history) WITH ORDINALITY AS h(attempt, place)), '[]'),
    reduced_at = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2
WHERE seq IN (
    SELECT seq FROM referral_outbox
    WHERE state IN ('done', 'withdrawn') AND reduced_at IS NULL
        AND finished_at < (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2 - $1
    ORDER BY finished_at LIMIT 1000 FOR UPDATE SKIP LOCKED
)
RETURNING seq
