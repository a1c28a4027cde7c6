-- $1 token, $2 batch, $3 lease, $4 clock offset, $5 and $6 cursor, $7 newest version that is read,
-- $8 how long a refund waits for its sale, $9 how long a report waits for a click,
-- $10 how long a follower is put off, $11 how many rows to look at
WITH page AS MATERIALIZED (
    -- Read and not locked: of a long queue under one key only the first row is of interest, and what
    -- is behind it is passed over without a write.
    SELECT seq, not_before, coalesce(sequence_key, seq::text) AS key
    FROM referral_outbox
    WHERE open AND version <= $7 AND (not_before, seq) >= ($5, $6)
        AND not_before <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4
    ORDER BY not_before, seq
    LIMIT $11::bigint
), firsts AS MATERIALIZED (
    SELECT min(seq) AS seq FROM page GROUP BY key
), due AS MATERIALIZED (
    SELECT r.seq, r.kind, r.id, r.sequence_key, r.depends_on, r.click_reference, r.state,
        r.not_before, r.created_at, r.blocked_by, r.reduced_at,
        (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4 AS now
    FROM firsts JOIN referral_outbox r ON r.seq = firsts.seq
    WHERE r.open AND r.not_before <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4
    ORDER BY r.not_before, r.seq
    LIMIT greatest($2::bigint * 2, $11::bigint / 8)
    FOR UPDATE OF r SKIP LOCKED
), facts AS MATERIALIZED (
    SELECT due.*,
        coalesce(due.id, 'row:' || due.seq) AS name,
        coalesce((SELECT coalesce(e.id, 'row:' || e.seq) FROM referral_outbox e
            WHERE e.sequence_key = due.sequence_key AND e.open AND e.seq < due.seq
                -- A refund that came before its sale doesn't hold the sale up, unless it is under way.
                AND (e.claimed_by IS NOT NULL
                    OR (e.state <> 'held' AND e.depends_on IS DISTINCT FROM due.id))
            ORDER BY e.seq DESC LIMIT 1),
            -- This one was reopened while a later one is under way: that was the first one then, and few
            -- of a long queue can be in front of it.
            (SELECT coalesce(l.id, 'row:' || l.seq) FROM (
                SELECT id, seq, claimed_by FROM referral_outbox
                WHERE sequence_key = due.sequence_key AND open AND seq > due.seq
                ORDER BY seq LIMIT 100) AS l
            WHERE l.claimed_by IS NOT NULL LIMIT 1)) AS in_front,
        -- A call may be under way whose report was erased meanwhile, and one that was begun may have
        -- arrived.
        parent.open OR (parent.claimed_by IS NOT NULL AND parent.not_before > due.now)
            AS parent_is_open,
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
), decided AS MATERIALIZED (
    SELECT *, CASE
        -- A refund whose amount was removed would be a whole one.
        WHEN reduced_at IS NOT NULL THEN 'withdrawn'
        WHEN in_front IS NOT NULL OR parent_is_open THEN 'blocked'
        WHEN parent_is_unsent AND depends_on LIKE 'sale:%' THEN 'withdrawn'
        WHEN parent_seq IS NULL AND depends_on LIKE 'sale:%' AND created_at + $8 > now THEN 'held'
        WHEN click_reference IS NOT NULL AND click_found IS NULL AND created_at + $9 > now
            THEN 'early'
        ELSE 'claimed' END AS decision
    FROM facts
), ranked AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY decision ORDER BY not_before, seq) AS place
    FROM decided
), changed AS (
    UPDATE referral_outbox r SET
        state = CASE WHEN d.decision IN ('blocked', 'early') THEN 'waiting' ELSE d.decision END,
        claimed_by = CASE d.decision WHEN 'claimed' THEN $1 END,
        blocked_by = CASE d.decision
            WHEN 'blocked' THEN coalesce(d.in_front, r.depends_on)
            WHEN 'held' THEN r.depends_on END,
        not_before = CASE d.decision
            WHEN 'claimed' THEN d.now + $3
            -- A follower is woken by the report before it; looking again is for what was missed.
            WHEN 'blocked' THEN d.now + CASE WHEN d.blocked_by IS NULL THEN $10 ELSE $10 * 10 END
            WHEN 'held' THEN r.created_at + $8
            WHEN 'early' THEN least(r.created_at + $9, d.now + 1000)
            ELSE r.not_before END,
        finished_at = CASE d.decision WHEN 'withdrawn' THEN d.now END,
        report = CASE WHEN d.decision = 'claimed' THEN coalesce(r.next_report, r.report)
            ELSE r.report END,
        next_report = CASE WHEN d.decision = 'claimed' THEN NULL ELSE r.next_report END,
        -- Whoever was sending it is gone, and nobody knows whether it arrived.
        may_have_arrived = r.may_have_arrived OR r.state = 'sending'
    FROM ranked d
    WHERE r.seq = d.seq AND (d.decision <> 'claimed' OR d.place <= $2)
    RETURNING r.seq, r.report::text AS report, r.attempts, r.may_have_arrived,
        r.platform_ids::text AS own_ids
), next AS (
    -- From where the next claim goes on: what this one has left, or the end of the page.
    SELECT not_before, seq FROM (
        (SELECT d.not_before, d.seq FROM ranked d
            WHERE d.decision = 'claimed' AND d.place > $2 ORDER BY 1, 2 LIMIT 1)
        UNION ALL
        (SELECT d.not_before, d.seq FROM due d
            WHERE (SELECT count(*) FROM due) >= greatest($2::bigint * 2, $11::bigint / 8)
            ORDER BY 1 DESC, 2 DESC LIMIT 1)
        UNION ALL
        (SELECT not_before, seq FROM page ORDER BY 1 DESC, 2 DESC LIMIT 1)
    ) AS ends
    ORDER BY 1, 2 LIMIT 1
)
SELECT (SELECT count(*) FROM page) AS looked,
    (SELECT count(*) FROM page) - (SELECT count(*) FROM firsts) AS passed_over,
    next.not_before AS next_not_before, next.seq AS next_seq,
    changed.seq, changed.report, changed.attempts, changed.may_have_arrived, d.decision,
    d.click_id, d.partner_id, changed.own_ids, d.parent_ids::text AS parent_ids,
    d.sale_is_unrecorded,
    (SELECT g.platform_ids::text FROM referral_outbox g WHERE g.id = d.grandparent)
        AS grandparent_ids
FROM next LEFT JOIN (changed JOIN ranked d USING (seq)) ON true
ORDER BY d.not_before, d.seq
