-- $1 changes, $2 now
INSERT INTO referral_payment_links (link, id)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
FROM json_each($1, '$.links') WHERE true
ON CONFLICT DO NOTHING
