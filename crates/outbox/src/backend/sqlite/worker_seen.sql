-- $1 worker, $2 paused for so many milliseconds, or NULL, $3 why, $4 now
INSERT INTO referral_workers AS w (worker, seen_at, paused_since, pause_reason)
VALUES ($1, $4, $4 - $2, $3)
ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at,
    paused_since = excluded.paused_since, pause_reason = excluded.pause_reason,
    probe = CASE WHEN w.probe = 1 THEN 2 ELSE 0 END
RETURNING probe = 2 AS seq
