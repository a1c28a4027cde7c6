-- $1 id, or NULL for all; $2 row, or NULL; $3 clock offset
UPDATE referral_outbox SET state = 'waiting', finished_at = NULL, claimed_by = NULL, attempts = 0,
    may_have_arrived = false,
    report = coalesce(next_report, report), next_report = NULL,
    not_before = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $3
WHERE state IN ('failed', 'ambiguous', 'unreadable') AND reduced_at IS NULL
    AND ($1::text IS NULL OR id = $1) AND ($2::bigint IS NULL OR seq = $2)
RETURNING seq
