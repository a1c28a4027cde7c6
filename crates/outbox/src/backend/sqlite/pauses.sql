-- $1 now
SELECT worker, paused_since, pause_reason FROM referral_workers
WHERE paused_since IS NOT NULL AND seen_at > $1 - 60000 ORDER BY worker
