-- $1 what became of the rows, $2 now
UPDATE referral_outbox SET state = 'waiting', blocked_by = NULL, not_before = min(not_before, $2)
WHERE open AND state IN ('waiting', 'held') AND blocked_by IN (
    SELECT coalesce(o.id, 'row:' || o.seq)
    FROM json_each($1) AS j JOIN referral_outbox AS o ON o.seq = json_extract(j.value, '$.seq')
    WHERE NOT o.open
)
