-- $1 customer, $2 clock offset
-- A click that is answered after the erasure finds its place taken: by a row without a click, for as
-- long as a browser keeps a cookie at most.
INSERT INTO referral_clicks (reference, expires_at)
SELECT DISTINCT c.reference,
    (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2 + 34560000000
FROM referral_outbox o, LATERAL (VALUES (o.report->'credit'->>'reference'),
    (o.next_report->'credit'->>'reference')) AS c(reference)
WHERE o.customer_id = $1 AND c.reference IS NOT NULL
ORDER BY c.reference
ON CONFLICT (reference) DO UPDATE SET click_id = NULL, partner_id = NULL,
    expires_at = excluded.expires_at
