-- $1 what became of the rows, $2 now
UPDATE referral_outbox AS r SET
    state = CASE
        WHEN s.state = 'waiting' AND r.state = 'withdrawn' THEN 'withdrawn'
        WHEN s.reopens THEN 'waiting'
        ELSE s.state END,
    outcome = CASE WHEN NOT s.reopens THEN s.outcome END,
    platform_ids = CASE WHEN s.platform_ids IS NULL THEN r.platform_ids
        WHEN r.erased THEN json_remove(
            json_patch(coalesce(r.platform_ids, '{}'), s.platform_ids), '$.customer', '$.click')
        ELSE json_patch(coalesce(r.platform_ids, '{}'), s.platform_ids) END,
    reason = s.reason,
    details = CASE WHEN NOT r.erased THEN s.details END,
    unreadable_for = s.reads,
    may_have_arrived = s.may_have_arrived,
    attempts = CASE WHEN s.reopens THEN 0 ELSE s.attempts END,
    not_before = $2 + coalesce(s.wait, 0),
    report = CASE WHEN s.reopens OR s.state IN ('waiting', 'ambiguous')
        THEN coalesce(r.next_report, r.report) ELSE r.report END,
    next_report = NULL,
    claimed_by = NULL,
    finished_at = CASE WHEN s.reopens OR (s.state = 'waiting' AND r.state <> 'withdrawn') THEN NULL
        ELSE $2 END,
    history = CASE WHEN s.attempt IS NULL THEN r.history ELSE json_insert(
        CASE WHEN json_array_length(r.history) >= 50 THEN json_remove(r.history, '$[1]')
            ELSE r.history END,
        '$[#]', json_patch(json_object('at', $2),
            CASE WHEN r.erased THEN json_remove(s.attempt, '$.details', '$.platform_ids') ELSE s.attempt END)) END
FROM (
    -- What came meanwhile, with credit, counts unless the platform has recorded the report.
    SELECT j.*, t.next_report IS NOT NULL AND NOT t.erased
        AND (j.state = 'failed' OR coalesce(j.outcome, '') = 'not_attributed') AS reopens
    FROM (SELECT json_extract(j.value, '$.seq') AS seq, json_extract(j.value, '$.token') AS token, json_extract(j.value, '$.state') AS state,
            json_extract(j.value, '$.outcome') AS outcome, json_extract(j.value, '$.platform_ids') AS platform_ids,
            json_extract(j.value, '$.reason') AS reason, json_extract(j.value, '$.details') AS details,
            json_extract(j.value, '$.attempts') AS attempts, json_extract(j.value, '$.wait') AS wait, json_extract(j.value, '$.reads') AS reads,
            json_extract(j.value, '$.may_have_arrived') AS may_have_arrived,
            json_extract(j.value, '$.attempt') AS attempt
        FROM json_each($1) AS j) AS j
    JOIN referral_outbox AS t ON t.seq = j.seq AND t.claimed_by = j.token
) AS s
WHERE r.seq = s.seq AND r.claimed_by = s.token
    AND (r.open OR r.state = 'withdrawn')
RETURNING seq
