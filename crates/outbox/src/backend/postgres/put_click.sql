-- $1 reference, $2 click ID, $3 partner ID, $4 milliseconds to live, $5 clock offset
INSERT INTO referral_clicks (reference, click_id, partner_id, expires_at)
VALUES ($1, $2, $3, (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $5 + $4)
ON CONFLICT (reference) DO NOTHING
