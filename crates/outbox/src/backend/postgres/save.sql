-- $1 what became of the rows, $2 clock offset
WITH s AS MATERIALIZED (
    SELECT *, (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2 AS now
    FROM jsonb_to_recordset($1::text::jsonb) AS s(seq bigint, token text, state text, outcome text,
        platform_ids jsonb, reason text, details text, attempts int, wait bigint, reads int,
        may_have_arrived boolean, attempt jsonb)
    ORDER BY seq
), saved AS (
    UPDATE referral_outbox r SET
        -- What came meanwhile, with credit, counts unless the platform has recorded the report. It is
        -- read of the row that is updated, and nowhere else: the statement may have waited for a
        -- transaction that brought it, or erased the row, and sees the rest as it was before.
        (state, outcome, attempts, report, finished_at) = (
            SELECT CASE
                    WHEN s.state = 'waiting' AND r.state = 'withdrawn' THEN 'withdrawn'
                    WHEN reopens THEN 'waiting'
                    ELSE s.state END,
                CASE WHEN NOT reopens THEN s.outcome END,
                CASE WHEN reopens THEN 0 ELSE s.attempts END,
                CASE WHEN reopens OR s.state IN ('waiting', 'ambiguous')
                    THEN coalesce(r.next_report, r.report) ELSE r.report END,
                CASE WHEN NOT reopens AND (s.state <> 'waiting' OR r.state = 'withdrawn') THEN s.now END
            FROM (SELECT r.next_report IS NOT NULL AND NOT r.erased
                AND (s.state = 'failed' OR coalesce(s.outcome = 'not_attributed', false)) AS reopens)
                AS f),
        platform_ids = CASE WHEN s.platform_ids IS NULL THEN r.platform_ids
            WHEN r.erased THEN coalesce(r.platform_ids, '{}') || s.platform_ids - 'customer' - 'click'
            ELSE coalesce(r.platform_ids, '{}') || s.platform_ids END,
        reason = s.reason,
        details = CASE WHEN NOT r.erased THEN s.details END,
        unreadable_for = s.reads,
        may_have_arrived = s.may_have_arrived,
        not_before = s.now + coalesce(s.wait, 0),
        next_report = NULL,
        claimed_by = NULL,
        history = CASE WHEN s.attempt IS NULL THEN r.history
            ELSE (CASE WHEN jsonb_array_length(r.history) >= 50 THEN r.history - 1 ELSE r.history END)
                || jsonb_build_array(jsonb_build_object('at', s.now)
                    || CASE WHEN r.erased THEN s.attempt - 'details' - 'platform_ids'
                        ELSE s.attempt END) END
    FROM s
    WHERE r.seq = s.seq AND r.claimed_by = s.token
        AND (r.open OR r.state = 'withdrawn')
    RETURNING r.seq, coalesce(r.id, 'row:' || r.seq) AS name, r.id, r.sequence_key, r.open,
        r.outcome, s.now, CASE WHEN r.kind = 'sale' THEN r.report->'customer' END AS customer
), missed AS (
    -- Somebody else has the row by now: what the platform said of it counts no more, its IDs do.
    UPDATE referral_outbox r SET platform_ids = s.platform_ids || coalesce(r.platform_ids, '{}')
    FROM s
    WHERE r.seq = s.seq AND r.claimed_by IS DISTINCT FROM s.token
        AND s.platform_ids IS NOT NULL AND NOT r.erased
), woken AS (
    UPDATE referral_outbox w SET state = 'waiting', blocked_by = NULL,
        not_before = least(w.not_before, saved.now)
    FROM saved
    WHERE NOT saved.open AND w.blocked_by = saved.name AND w.open
        AND w.state IN ('waiting', 'held')
), followed AS (
    -- The next one of the key, which claims have passed over, goes where they look now.
    UPDATE referral_outbox w SET not_before = saved.now
    FROM saved
    WHERE NOT saved.open AND w.state = 'waiting' AND w.blocked_by IS NULL AND w.open
        AND w.not_before < saved.now
        AND w.seq = (SELECT n.seq FROM referral_outbox n
            WHERE n.sequence_key = saved.sequence_key AND n.open AND n.seq > saved.seq
            ORDER BY n.seq LIMIT 1)
), reopened AS (
    -- A refund that found no sale goes again once its sale is recorded, and alike.
    UPDATE referral_outbox w SET
        state = CASE WHEN w.reduced_at IS NULL THEN 'waiting' ELSE 'failed' END,
        finished_at = CASE WHEN w.reduced_at IS NOT NULL THEN saved.now END,
        reason = CASE WHEN w.reduced_at IS NULL THEN w.reason
            ELSE 'its content was removed before its sale was credited: enter it at the platform by hand, and settle it' END,
        -- Whoever paid as a guest may be known by now.
        report = CASE WHEN w.report->'customer' IS NOT NULL AND saved.customer IS NOT NULL
            THEN jsonb_set(w.report, '{customer}', saved.customer) ELSE w.report END,
        outcome = NULL, attempts = 0, not_before = saved.now
    FROM saved
    WHERE saved.outcome IN ('recorded', 'duplicate')
        -- By the index on what it depends on, however many sales were credited to nobody: the rest is
        -- behind a fence, or the planner takes the index of all that is delivered for it.
        AND w.seq = ANY (ARRAY(SELECT u.seq FROM (
            SELECT seq, kind, state, reduced_at FROM referral_outbox
            WHERE depends_on = saved.id AND outcome = 'not_attributed' OFFSET 0) AS u
            WHERE u.state = 'done'
                AND (u.reduced_at IS NULL OR u.kind IN ('refund', 'refund_reversal'))))
        -- Once more of the row itself, which may have been erased while this waited for it.
        AND CASE WHEN w.outcome = 'not_attributed'
            THEN w.state = 'done'
                AND (w.reduced_at IS NULL OR w.kind IN ('refund', 'refund_reversal')) END
)
SELECT seq, name FROM saved
