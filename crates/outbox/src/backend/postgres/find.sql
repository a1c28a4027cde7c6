-- $1 id
SELECT seq, id, kind, report::text AS report, (report->'credit')::text AS credit, state, not_before,
    attempts, blocked_by, outcome, platform_ids::text AS platform_ids, reason, details,
    history::text AS history, created_at, finished_at, reduced_at
FROM referral_outbox WHERE id = $1
