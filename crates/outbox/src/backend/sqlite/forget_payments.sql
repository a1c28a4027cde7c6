-- $1 not used for, $2 now
DELETE FROM referral_payments WHERE id IN (
    SELECT id FROM referral_payments WHERE used_at < $2 - $1 ORDER BY used_at LIMIT 1000
)
RETURNING used_at AS seq
