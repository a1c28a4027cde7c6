-- $1 now, $2 newest version that is read, $3 how long a refund waits for its sale,
-- $4 how long a report waits for a click, $5 how many rows to look at, $6 and $7 cursor,
-- $8 how many of them to decide on
WITH page AS MATERIALIZED (
    -- Of a long queue under one key only the first row is of interest, and what is behind it is passed
    -- over without a write.
    SELECT seq, not_before, coalesce(sequence_key, seq) AS key
    FROM referral_outbox
    WHERE open AND version <= $2 AND not_before <= $1 AND (not_before, seq) >= ($6, $7)
    ORDER BY not_before, seq
    LIMIT $5
), firsts AS MATERIALIZED (
    SELECT min(seq) AS seq FROM page GROUP BY key
), due AS MATERIALIZED (
    SELECT o.seq, o.id, o.sequence_key, o.depends_on, o.click_reference, o.state, o.not_before,
        o.created_at, o.blocked_by, o.reduced_at, o.attempts, o.report, o.next_report, o.may_have_arrived,
        o.platform_ids
    FROM firsts JOIN referral_outbox o ON o.seq = firsts.seq
    ORDER BY o.not_before, o.seq
    LIMIT $8
), facts AS MATERIALIZED (
    SELECT due.*,
        coalesce((SELECT e.seq FROM referral_outbox e
            WHERE e.sequence_key = due.sequence_key AND e.open = 1 AND e.seq < due.seq
                -- A refund that came before its sale doesn't hold the sale up, unless it is under way.
                AND (e.claimed_by IS NOT NULL
                    OR (e.state <> 'held' AND e.depends_on IS NOT due.id))
            ORDER BY e.seq DESC LIMIT 1),
            -- This one was reopened while a later one is under way: that was the first one then, and few
            -- of a long queue can be in front of it.
            (SELECT l.seq FROM (
                SELECT seq, claimed_by FROM referral_outbox
                WHERE sequence_key = due.sequence_key AND open = 1 AND seq > due.seq
                ORDER BY seq LIMIT 100) AS l
            WHERE l.claimed_by IS NOT NULL LIMIT 1)) AS in_front,
        -- A call may be under way whose report was erased meanwhile, and one that was begun may have
        -- arrived.
        parent.open OR (parent.claimed_by IS NOT NULL AND parent.not_before > $1) AS parent_is_open,
        parent.state = 'withdrawn' AND parent.claimed_by IS NULL AND parent.attempts = 0
            AND NOT parent.may_have_arrived AS parent_is_unsent,
        parent.seq AS parent_seq,
        parent.platform_ids AS parent_ids,
        coalesce(parent.id LIKE 'sale:%'
            AND coalesce(parent.outcome, '') NOT IN ('recorded', 'duplicate'), false)
            AS sale_is_unrecorded,
        parent.depends_on AS grandparent,
        click.reference AS click_found, click.click_id, click.partner_id
    FROM due
    LEFT JOIN referral_outbox parent ON parent.id = due.depends_on
    LEFT JOIN referral_clicks click ON click.reference = due.click_reference
)
SELECT seq, coalesce(next_report, report) AS report, attempts,
    may_have_arrived OR state = 'sending' AS may_have_arrived, not_before, click_id, partner_id,
    platform_ids AS own_ids, parent_ids, sale_is_unrecorded,
    (SELECT g.platform_ids FROM referral_outbox g WHERE g.id = grandparent) AS grandparent_ids,
    in_front, blocked_by IS NOT NULL AS was_blocked, CASE
        -- A refund whose amount was removed would be a whole one.
        WHEN reduced_at IS NOT NULL THEN 'withdrawn'
        WHEN in_front IS NOT NULL OR parent_is_open THEN 'blocked'
        WHEN parent_is_unsent AND depends_on LIKE 'sale:%' THEN 'withdrawn'
        WHEN parent_seq IS NULL AND depends_on LIKE 'sale:%' AND created_at + $3 > $1 THEN 'held'
        WHEN click_reference IS NOT NULL AND click_found IS NULL AND created_at + $4 > $1
            THEN 'early'
        ELSE 'claimed' END AS decision,
    (SELECT count(*) FROM page) AS looked,
    (SELECT count(*) FROM page) - (SELECT count(*) FROM firsts) AS passed_over,
    (SELECT not_before FROM page ORDER BY not_before DESC, seq DESC LIMIT 1) AS last_not_before,
    (SELECT seq FROM page ORDER BY not_before DESC, seq DESC LIMIT 1) AS last_seq
FROM facts
ORDER BY not_before, seq
