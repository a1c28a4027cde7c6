-- $1 what became of the rows, $2 now
-- A refund that found no sale goes again once its sale is recorded, and alike.
UPDATE referral_outbox SET state = 'waiting', outcome = NULL, finished_at = NULL, attempts = 0,
    not_before = $2
WHERE outcome = 'not_attributed' AND state = 'done' AND reduced_at IS NULL
    AND depends_on IN (
        SELECT o.id
        FROM json_each($1) AS j JOIN referral_outbox AS o ON o.seq = json_extract(j.value, '$.seq')
        WHERE o.outcome IN ('recorded', 'duplicate')
    )
