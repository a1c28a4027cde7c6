-- $1 order or customer, $2 its sequence key as an order, $3 as a customer
SELECT seq, id, kind, report, CASE WHEN json_valid(report) THEN report->'$.credit' END AS credit, state,
    not_before, attempts, blocked_by, outcome, platform_ids, reason, details, history, created_at,
    finished_at, reduced_at
FROM referral_outbox
WHERE sequence_key IN ($2, $3) OR customer_id = $1 OR sequence_key IN (
    SELECT sequence_key FROM referral_outbox WHERE customer_id = $1
)
ORDER BY seq
