-- $1 customer, $2 now
UPDATE referral_outbox SET
    (report, state, blocked_by, finished_at, reduced_at) = (
        SELECT
            CASE WHEN is_kept THEN json_remove(report, '$.customer', '$.email', '$.reason')
                ELSE json_patch('{}', json_object(
                    'version', json_extract(report, '$.version'),
                    'kind', json_extract(report, '$.kind'),
                    'order', json_extract(report, '$.order'),
                    'refund', json_extract(report, '$.refund'),
                    'credit', CASE WHEN has_credit THEN json('{"reduced":true}') END)) END,
            CASE WHEN open AND NOT is_kept THEN 'withdrawn' ELSE state END,
            CASE WHEN is_kept THEN blocked_by END,
            CASE WHEN is_kept THEN finished_at ELSE coalesce(finished_at, $2) END,
            CASE WHEN NOT is_kept THEN $2 END
        -- What the platform is still to be told of an order that it knows goes on, without the customer:
        -- otherwise money that went back would earn commission. Workers withdraw what is about an order
        -- that the platform isn't told of.
        FROM (SELECT coalesce(kind IN ('refund', 'refund_reversal', 'sale_update'), false)
            AND (open OR state IN ('failed', 'ambiguous')) AND reduced_at IS NULL AS is_kept)),
    next_report = NULL, details = NULL,
    platform_ids = json_remove(platform_ids, '$.customer', '$.click'),
    history = (SELECT json_group_array(json_remove(value, '$.details', '$.platform_ids')) FROM json_each(history)),
    erased = 1
WHERE customer_id = $1
RETURNING seq
