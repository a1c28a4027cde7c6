-- $1 rows and tokens, $2 lease, $3 now
UPDATE referral_outbox AS r SET not_before = $3 + $2
FROM (
    SELECT json_extract(value, '$.seq') AS seq, json_extract(value, '$.token') AS token
    FROM json_each($1)
) AS s
WHERE r.seq = s.seq AND r.claimed_by = s.token AND r.open
RETURNING seq
