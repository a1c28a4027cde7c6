ON CONFLICT (id) DO UPDATE SET
    revision = r.revision + 1,
    report = CASE WHEN r.claimed_by IS NULL THEN excluded.report ELSE r.report END,
    next_report = CASE WHEN r.claimed_by IS NOT NULL THEN excluded.report END,
    attempts = CASE WHEN r.claimed_by IS NULL THEN 0 ELSE r.attempts END,
    state = CASE WHEN r.state IN ('done', 'failed') THEN 'waiting' ELSE r.state END,
    outcome = CASE WHEN r.state IN ('done', 'failed') THEN NULL ELSE r.outcome END,
    finished_at = CASE WHEN r.state IN ('done', 'failed') THEN NULL ELSE r.finished_at END,
    reduced_at = NULL,
    not_before = CASE WHEN r.state IN ('done', 'failed') THEN excluded.not_before
        ELSE r.not_before END
WHERE excluded.has_credit AND NOT r.has_credit AND NOT r.erased
    AND (r.open OR r.state IN ('failed', 'ambiguous') OR r.outcome = 'not_attributed')
RETURNING id, revision
