-- $1 clock offset
SELECT worker, paused_since, pause_reason FROM referral_workers
WHERE paused_since IS NOT NULL
    AND seen_at > (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $1 - 60000
ORDER BY worker
