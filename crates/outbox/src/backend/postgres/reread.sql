-- $1 what this build reads, $2 clock offset
UPDATE referral_outbox SET state = 'waiting', finished_at = NULL,
    not_before = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2
WHERE seq IN (
    SELECT seq FROM referral_outbox
    WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'unreadable'
        AND unreadable_for < $1
    ORDER BY seq LIMIT 1000 FOR UPDATE SKIP LOCKED
)
RETURNING seq
