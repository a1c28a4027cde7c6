-- $1 id, $2 outcome, $3 now
UPDATE referral_outbox SET state = 'done', outcome = $2, claimed_by = NULL, next_report = NULL,
    reason = 'settled by a person', finished_at = $3
WHERE id = $1 AND state IN ('failed', 'ambiguous', 'unreadable')
RETURNING seq
