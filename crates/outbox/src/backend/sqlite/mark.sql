-- $1 row, $2 token, $3 lease, $4 now
UPDATE referral_outbox SET state = 'sending', attempts = attempts + 1, not_before = $4 + $3
WHERE seq = $1 AND claimed_by = $2 AND state = 'claimed'
RETURNING seq
