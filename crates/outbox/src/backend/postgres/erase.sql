-- $1 customer, $2 clock offset
UPDATE referral_outbox SET
    report = jsonb_strip_nulls(jsonb_build_object(
        'version', report->'version', 'kind', report->'kind',
        'order', report->'order', 'refund', report->'refund',
        'credit', CASE WHEN has_credit THEN '{"reduced": true}'::jsonb END)),
    next_report = NULL, blocked_by = NULL, details = NULL,
    platform_ids = platform_ids - 'customer' - 'click',
    history = coalesce((SELECT jsonb_agg(entry - 'details' - 'platform_ids' ORDER BY place)
        FROM jsonb_array_elements(history) WITH ORDINALITY AS h(entry, place)), '[]'),
    state = CASE WHEN open THEN 'withdrawn' ELSE state END,
    finished_at = coalesce(finished_at,
        (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2),
    reduced_at = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2,
    erased = true
WHERE customer_id = $1
RETURNING seq
