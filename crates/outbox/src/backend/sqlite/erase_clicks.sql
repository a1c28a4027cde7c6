-- $1 customer, $2 now
-- A click that is answered after the erasure finds its place taken: by a row without a click, for as
-- long as a browser keeps a cookie at most.
INSERT INTO referral_clicks (reference, expires_at)
SELECT reference, $2 + 34560000000 FROM (
    SELECT json_extract(report, '$.credit.reference') AS reference
    FROM referral_outbox WHERE customer_id = $1
    UNION
    SELECT json_extract(next_report, '$.credit.reference')
    FROM referral_outbox WHERE customer_id = $1
)
WHERE reference IS NOT NULL
ON CONFLICT (reference) DO UPDATE SET click_id = NULL, partner_id = NULL,
    expires_at = excluded.expires_at
