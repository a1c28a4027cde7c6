-- $1 now, $2 newest version that is read, $3 how long a refund waits for its sale,
-- $4 how long a report waits for a click, $5 how many rows to look at
WITH due AS MATERIALIZED (
    SELECT seq, id, sequence_key, depends_on, click_reference, state, not_before, created_at,
        blocked_by, attempts, report, next_report, may_have_arrived, platform_ids
    FROM referral_outbox
    WHERE open AND version <= $2 AND not_before <= $1
    ORDER BY not_before, seq
    LIMIT $5
), facts AS MATERIALIZED (
    SELECT due.*,
        coalesce(due.id, 'row:' || due.seq) AS name,
        (SELECT coalesce(e.id, 'row:' || e.seq) FROM referral_outbox e
            WHERE e.sequence_key = due.sequence_key AND e.open = 1 AND e.seq < due.seq
                AND e.state <> 'held'
                -- A refund that came before its sale doesn't hold the sale up.
                AND e.depends_on IS NOT due.id
            ORDER BY e.seq DESC LIMIT 1) AS earlier,
        parent.open AS parent_is_open, parent.seq AS parent_seq,
        parent.platform_ids AS parent_ids,
        parent.depends_on AS grandparent,
        click.reference AS click_found, click.click_id, click.partner_id
    FROM due
    LEFT JOIN referral_outbox parent ON parent.id = due.depends_on
    LEFT JOIN referral_clicks click ON click.reference = due.click_reference
)
SELECT seq, coalesce(next_report, report) AS report, attempts,
    may_have_arrived OR state = 'sending' AS may_have_arrived, not_before, name, click_id,
    partner_id, platform_ids AS own_ids, parent_ids,
    (SELECT g.platform_ids FROM referral_outbox g WHERE g.id = grandparent) AS grandparent_ids,
    coalesce(earlier, depends_on) AS blocker, blocked_by IS NOT NULL AS was_blocked, CASE
        WHEN earlier IS NOT NULL OR parent_is_open THEN 'blocked'
        WHEN parent_seq IS NULL AND depends_on LIKE 'sale:%' AND created_at + $3 > $1 THEN 'held'
        WHEN click_reference IS NOT NULL AND click_found IS NULL AND created_at + $4 > $1
            THEN 'early'
        ELSE 'claimed' END AS decision
FROM facts
ORDER BY not_before, seq
