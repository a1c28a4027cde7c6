-- $1 customer, $2 clock offset
UPDATE referral_outbox SET
    (report, state, blocked_by, finished_at, reduced_at) = (
        SELECT
            CASE WHEN is_kept THEN report - 'customer' - 'email' - 'reason'
                ELSE jsonb_strip_nulls(jsonb_build_object(
                    'version', report->'version', 'kind', report->'kind',
                    'order', report->'order', 'refund', report->'refund',
                    'credit', CASE WHEN has_credit THEN '{"reduced": true}'::jsonb END)) END,
            CASE WHEN open AND NOT is_kept THEN 'withdrawn' ELSE state END,
            CASE WHEN is_kept THEN blocked_by END,
            CASE WHEN is_kept THEN finished_at ELSE coalesce(finished_at, now) END,
            CASE WHEN NOT is_kept THEN now END
        -- What the platform is still to be told of an order that it knows goes on, without the customer:
        -- otherwise money that went back would earn commission. Workers withdraw what is about an order
        -- that the platform isn't told of.
        FROM (SELECT coalesce(kind IN ('refund', 'refund_reversal', 'sale_update'), false)
                AND (open OR state IN ('failed', 'ambiguous')) AND reduced_at IS NULL AS is_kept,
            (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2 AS now) AS f),
    next_report = NULL, details = NULL,
    platform_ids = platform_ids - 'customer' - 'click',
    history = coalesce((SELECT jsonb_agg(attempt - 'details' - 'platform_ids' ORDER BY place)
        FROM jsonb_array_elements(history) WITH ORDINALITY AS h(attempt, place)), '[]'),
    erased = true
WHERE customer_id = $1
RETURNING seq
