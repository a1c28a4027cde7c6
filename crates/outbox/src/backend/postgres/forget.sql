-- $1 finished before, relative to now; $2 clock offset
DELETE FROM referral_outbox WHERE seq IN (
    SELECT seq FROM referral_outbox
    WHERE reduced_at IS NOT NULL
        AND finished_at < (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2 - $1
    ORDER BY finished_at LIMIT 1000 FOR UPDATE SKIP LOCKED
)
RETURNING seq
