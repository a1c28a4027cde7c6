-- $1 changes, $2 now
DELETE FROM referral_payment_links
WHERE id IN (SELECT json_extract(value, '$.id') FROM json_each($1, '$.saved'))
