-- $1 the last row of the page before, $2 how many
SELECT seq, id, kind, report, CASE WHEN json_valid(report) THEN report->'$.credit' END AS credit, state,
    not_before, attempts, blocked_by, outcome, platform_ids, reason, details, history, created_at,
    finished_at, reduced_at
FROM referral_outbox
WHERE state IN ('failed', 'ambiguous', 'unreadable') AND seq > $1
ORDER BY seq LIMIT $2
