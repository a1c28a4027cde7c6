-- $1 worker, $2 paused for so many milliseconds, or NULL, $3 why, $4 clock offset
WITH old AS MATERIALIZED (SELECT probe FROM referral_workers WHERE worker = $1),
gone AS (
    DELETE FROM referral_workers
    WHERE seen_at < (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4 - 86400000
        AND worker <> $1
)
INSERT INTO referral_workers AS w (worker, seen_at, paused_since, pause_reason)
VALUES ($1, (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4,
    (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4 - $2, $3)
ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at,
    paused_since = excluded.paused_since, pause_reason = excluded.pause_reason, probe = false
RETURNING coalesce((SELECT probe FROM old), false)::int::bigint AS seq
