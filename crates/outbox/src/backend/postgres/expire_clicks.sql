-- $1 clock offset
DELETE FROM referral_clicks WHERE reference IN (
    SELECT reference FROM referral_clicks
    WHERE expires_at <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $1
    LIMIT 1000 FOR UPDATE SKIP LOCKED
)
RETURNING expires_at AS seq
