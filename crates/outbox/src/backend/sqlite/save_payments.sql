-- $1 changes, $2 now
INSERT INTO referral_payments (id, customer, record, used_at)
SELECT json_extract(value, '$.id'), json_extract(value, '$.customer'),
    json_extract(value, '$.record'), $2
FROM json_each($1, '$.saved') WHERE true
ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, record = excluded.record,
    used_at = excluded.used_at
