-- $1 decisions, $2 token, $3 lease, $4 now, $5 how long a refund waits for its sale,
-- $6 how long a report waits for a click, $7 how long a follower is put off
UPDATE referral_outbox AS r SET
    state = CASE WHEN d.decision IN ('blocked', 'early') THEN 'waiting' ELSE d.decision END,
    claimed_by = CASE d.decision WHEN 'claimed' THEN $2 END,
    blocked_by = CASE d.decision
        WHEN 'blocked' THEN coalesce(
            (SELECT coalesce(e.id, 'row:' || e.seq) FROM referral_outbox e WHERE e.seq = d.in_front),
            r.depends_on)
        WHEN 'held' THEN r.depends_on END,
    not_before = CASE d.decision
        WHEN 'claimed' THEN $4 + $3
        -- A follower is woken by the report before it; looking again is for what was missed.
        WHEN 'blocked' THEN $4 + CASE WHEN d.was_blocked THEN $7 * 10 ELSE $7 END
        WHEN 'held' THEN r.created_at + $5
        WHEN 'early' THEN min(r.created_at + $6, $4 + 1000)
        ELSE r.not_before END,
    finished_at = CASE d.decision WHEN 'withdrawn' THEN $4 END,
    report = CASE WHEN d.decision = 'claimed' THEN coalesce(r.next_report, r.report)
        ELSE r.report END,
    next_report = CASE WHEN d.decision = 'claimed' THEN NULL ELSE r.next_report END,
    -- Whoever was sending it is gone, and nobody knows whether it arrived.
    may_have_arrived = r.may_have_arrived OR r.state = 'sending'
FROM (
    SELECT json_extract(value, '$.seq') AS seq, json_extract(value, '$.decision') AS decision,
        json_extract(value, '$.in_front') AS in_front,
        json_extract(value, '$.was_blocked') AS was_blocked
    FROM json_each($1)
) AS d
WHERE r.seq = d.seq
