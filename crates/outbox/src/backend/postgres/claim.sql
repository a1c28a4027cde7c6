-- $1 token, $2 batch, $3 lease, $4 clock offset, $5 and $6 cursor, $7 newest version that is read,
-- $8 how long a refund waits for its sale, $9 how long a report waits for a click,
-- $10 how long a follower is put off, $11 how many rows to look at
WITH due AS MATERIALIZED (
    SELECT seq, kind, id, sequence_key, depends_on, click_reference, state, not_before, created_at,
        blocked_by
    FROM referral_outbox
    WHERE open AND version <= $7 AND (not_before, seq) >= ($5, $6)
        AND not_before <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4
    ORDER BY not_before, seq
    LIMIT $11
    FOR UPDATE SKIP LOCKED
), facts AS MATERIALIZED (
    SELECT due.*,
        (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $4 AS now,
        coalesce(due.id, 'row:' || due.seq) AS name,
        (SELECT coalesce(e.id, 'row:' || e.seq) FROM referral_outbox e
            WHERE e.sequence_key = due.sequence_key AND e.open AND e.seq < due.seq
                AND e.state <> 'held'
                -- A refund that came before its sale doesn't hold the sale up.
                AND e.depends_on IS DISTINCT FROM due.id
            ORDER BY e.seq DESC LIMIT 1) AS earlier,
        parent.open AS parent_is_open, parent.seq AS parent_seq,
        parent.platform_ids AS parent_ids,
        parent.depends_on AS grandparent,
        click.reference AS click_found, click.click_id, click.partner_id
    FROM due
    LEFT JOIN referral_outbox parent ON parent.id = due.depends_on
    LEFT JOIN referral_clicks click ON click.reference = due.click_reference
), decided AS MATERIALIZED (
    SELECT *, CASE
        WHEN earlier IS NOT NULL OR parent_is_open THEN 'blocked'
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
            WHEN 'blocked' THEN coalesce(d.earlier, r.depends_on)
            WHEN 'held' THEN r.depends_on END,
        not_before = CASE d.decision
            WHEN 'claimed' THEN d.now + $3
            -- A follower is woken by the report before it; looking again is for what was missed.
            WHEN 'blocked' THEN d.now + CASE WHEN d.blocked_by IS NULL THEN $10 ELSE $10 * 10 END
            WHEN 'held' THEN r.created_at + $8
            WHEN 'early' THEN least(r.created_at + $9, d.now + 1000)
            ELSE r.not_before END,
        report = CASE WHEN d.decision = 'claimed' THEN coalesce(r.next_report, r.report)
            ELSE r.report END,
        next_report = CASE WHEN d.decision = 'claimed' THEN NULL ELSE r.next_report END,
        -- Whoever was sending it is gone, and nobody knows whether it arrived.
        may_have_arrived = r.may_have_arrived OR r.state = 'sending'
    FROM ranked d
    WHERE r.seq = d.seq AND (d.decision <> 'claimed' OR d.place <= $2)
    RETURNING r.seq, r.report::text AS report, r.attempts, r.may_have_arrived,
        r.platform_ids::text AS own_ids
)
SELECT changed.seq, changed.report, changed.attempts, changed.may_have_arrived, d.decision, d.not_before, d.name,
    d.click_id, d.partner_id, changed.own_ids, d.parent_ids::text AS parent_ids,
    (SELECT g.platform_ids::text FROM referral_outbox g WHERE g.id = d.grandparent)
        AS grandparent_ids
FROM changed JOIN ranked d USING (seq)
ORDER BY d.not_before, d.seq
