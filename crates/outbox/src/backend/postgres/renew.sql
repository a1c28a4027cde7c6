-- $1 rows and tokens, $2 lease, $3 clock offset
UPDATE referral_outbox r
SET not_before = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $3 + $2
FROM jsonb_to_recordset($1::text::jsonb) AS s(seq bigint, token text)
WHERE r.seq = s.seq AND r.claimed_by = s.token AND r.open
RETURNING r.seq
