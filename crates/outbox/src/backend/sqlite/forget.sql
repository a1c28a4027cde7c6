-- $1 finished before, relative to now; $2 now
DELETE FROM referral_outbox WHERE seq IN (
    SELECT seq FROM referral_outbox WHERE reduced_at IS NOT NULL AND finished_at < $2 - $1
    ORDER BY finished_at LIMIT 1000
)
RETURNING seq
