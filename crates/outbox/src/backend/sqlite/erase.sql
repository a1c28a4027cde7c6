-- $1 customer, $2 now
UPDATE referral_outbox SET
    report = json_patch('{}', json_object(
        'version', json_extract(report, '$.version'), 'kind', json_extract(report, '$.kind'),
        'order', json_extract(report, '$.order'), 'refund', json_extract(report, '$.refund'),
        'credit', CASE WHEN has_credit THEN json('{"reduced":true}') END)),
    next_report = NULL, blocked_by = NULL, details = NULL,
    platform_ids = json_remove(platform_ids, '$.customer', '$.click'),
    history = (SELECT json_group_array(json_remove(value, '$.details', '$.platform_ids')) FROM json_each(history)),
    state = CASE WHEN open THEN 'withdrawn' ELSE state END,
    finished_at = coalesce(finished_at, $2),
    reduced_at = $2,
    erased = 1
WHERE customer_id = $1
RETURNING seq
