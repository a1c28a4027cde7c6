-- $1 now
DELETE FROM referral_clicks WHERE reference IN (
    SELECT reference FROM referral_clicks WHERE expires_at <= $1 LIMIT 1000
)
RETURNING expires_at AS seq
