-- $1 id, $2 outcome, $3 clock offset
UPDATE referral_outbox SET state = 'done', outcome = $2, claimed_by = NULL, next_report = NULL,
    reason = 'settled by a person',
    finished_at = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $3
WHERE id = $1 AND state IN ('failed', 'ambiguous', 'unreadable')
RETURNING seq
