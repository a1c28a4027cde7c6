-- $1 customer
UPDATE referral_outbox SET details = NULL,
    report = json_remove(report, '$.reason'),
    history = (SELECT json_group_array(json_remove(value, '$.details')) FROM json_each(history))
WHERE customer_id IS NOT $1 AND sequence_key IN (
    SELECT sequence_key FROM referral_outbox WHERE customer_id = $1 AND kind <> 'sign_up'
)
RETURNING seq
