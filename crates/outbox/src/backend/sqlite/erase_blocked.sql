-- $1 customer, $2 now
-- What waits for a report that is about to be withdrawn looks again, and finds what else it has to wait
-- for: the ID of a sign-up or a cancellation has the customer in it.
UPDATE referral_outbox SET state = 'waiting', blocked_by = NULL, not_before = min(not_before, $2)
WHERE open AND state IN ('waiting', 'held') AND blocked_by IN (
    SELECT coalesce(id, 'row:' || seq) FROM referral_outbox
    WHERE customer_id = $1 AND (open OR kind IN ('sign_up', 'cancellation'))
)
RETURNING seq
