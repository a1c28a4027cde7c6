-- $1 customer
UPDATE referral_outbox SET details = NULL,
    report = report - 'reason',
    history = coalesce((SELECT jsonb_agg(attempt - 'details' ORDER BY place)
        FROM jsonb_array_elements(history) WITH ORDINALITY AS h(attempt, place)), '[]')
WHERE customer_id IS DISTINCT FROM $1 AND sequence_key IN (
    SELECT sequence_key FROM referral_outbox WHERE customer_id = $1 AND kind <> 'sign_up'
)
RETURNING seq
