-- $1 finished before, relative to now; $2 now
UPDATE referral_outbox SET
    report = json_patch('{}', json_object(
        'version', json_extract(report, '$.version'), 'kind', json_extract(report, '$.kind'),
        'order', json_extract(report, '$.order'), 'refund', json_extract(report, '$.refund'),
        'subscription', json_extract(report, '$.subscription'),
        'update', json_extract(report, '$.update'),
        'amount', CASE WHEN kind <> 'sale' AND json_extract(report, '$.refund') IS NULL
            THEN json_extract(report, '$.amount') END,
        'customer', CASE WHEN kind IN ('sign_up', 'cancellation')
            THEN json_extract(report, '$.customer') END,
        'email', CASE WHEN kind IN ('sign_up', 'cancellation')
                AND json_extract(report, '$.customer') IS NULL
            THEN json_extract(report, '$.email') END,
        'credit', CASE WHEN has_credit THEN json_object('reduced', json('true'), 'reference',
            -- For an erasure, as long as the customer is there.
            CASE WHEN kind = 'sign_up' THEN json_extract(report, '$.credit.reference') END) END)),
    next_report = NULL, details = NULL,
    history = (SELECT json_group_array(json_remove(value, '$.details')) FROM json_each(history)),
    reduced_at = $2
WHERE seq IN (
    SELECT seq FROM referral_outbox
    WHERE state IN ('done', 'withdrawn') AND reduced_at IS NULL AND finished_at < $2 - $1
    ORDER BY finished_at LIMIT 1000
)
RETURNING seq
