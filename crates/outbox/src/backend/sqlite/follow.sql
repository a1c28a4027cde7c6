-- $1 what became of the rows, $2 now
-- The next one of the key, which claims have passed over, goes where they look now.
UPDATE referral_outbox SET not_before = $2
WHERE state = 'waiting' AND blocked_by IS NULL AND open AND not_before < $2 AND seq IN (
    SELECT (SELECT n.seq FROM referral_outbox n
        WHERE n.sequence_key = o.sequence_key AND n.open = 1 AND n.seq > o.seq
        ORDER BY n.seq LIMIT 1)
    FROM json_each($1) AS j JOIN referral_outbox AS o ON o.seq = json_extract(j.value, '$.seq')
    WHERE NOT o.open
)
