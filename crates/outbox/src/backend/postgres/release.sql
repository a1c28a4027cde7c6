-- $1 rows and tokens, $2 clock offset
UPDATE referral_outbox r SET state = 'waiting', claimed_by = NULL,
    not_before = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2
FROM jsonb_to_recordset($1::text::jsonb) AS s(seq bigint, token text)
WHERE r.seq = s.seq AND r.claimed_by = s.token AND r.state = 'claimed'
RETURNING r.seq
