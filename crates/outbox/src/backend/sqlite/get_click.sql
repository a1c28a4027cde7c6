-- $1 reference, $2 now
SELECT click_id, partner_id FROM referral_clicks
WHERE reference = $1 AND click_id IS NOT NULL AND expires_at > $2
