-- $1 what became of the rows, $2 now
-- Somebody else has the row by now: what the platform said of it counts no more, its IDs do.
UPDATE referral_outbox AS r SET platform_ids = json_patch(s.platform_ids, coalesce(r.platform_ids, '{}'))
FROM (
    SELECT json_extract(value, '$.seq') AS seq, json_extract(value, '$.token') AS token,
        json_extract(value, '$.platform_ids') AS platform_ids
    FROM json_each($1)
) AS s
WHERE r.seq = s.seq AND r.claimed_by IS NOT s.token AND s.platform_ids IS NOT NULL AND NOT r.erased
