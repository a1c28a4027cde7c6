-- $1 reference, $2 click ID, $3 partner ID, $4 milliseconds to live, $5 now
INSERT INTO referral_clicks (reference, click_id, partner_id, expires_at)
VALUES ($1, $2, $3, $5 + $4)
ON CONFLICT (reference) DO NOTHING
