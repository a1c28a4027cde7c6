-- $1 id, or NULL for all; $2 row, or NULL; $3 now
UPDATE referral_outbox SET state = 'waiting', finished_at = NULL, claimed_by = NULL, attempts = 0,
    may_have_arrived = 0,
    report = coalesce(next_report, report), next_report = NULL, not_before = $3
WHERE state IN ('failed', 'ambiguous', 'unreadable') AND reduced_at IS NULL
    AND ($1 IS NULL OR id = $1) AND ($2 IS NULL OR seq = $2)
RETURNING seq
