-- $1 id
SELECT seq, id, kind, report, CASE WHEN json_valid(report) THEN report->'$.credit' END AS credit, state,
    not_before, attempts, blocked_by, outcome, platform_ids, reason, details, history, created_at,
    finished_at, reduced_at
FROM referral_outbox WHERE id = $1
