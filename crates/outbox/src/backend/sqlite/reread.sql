-- $1 what this build reads, $2 now
UPDATE referral_outbox SET state = 'waiting', finished_at = NULL, not_before = $2
WHERE seq IN (
    SELECT seq FROM referral_outbox
    WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'unreadable'
        AND unreadable_for < $1
    ORDER BY seq LIMIT 1000
)
RETURNING seq
