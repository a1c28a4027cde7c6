-- $1 reference, $2 clock offset
SELECT click_id, partner_id FROM referral_clicks
WHERE reference = $1 AND click_id IS NOT NULL
    AND expires_at > (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2
