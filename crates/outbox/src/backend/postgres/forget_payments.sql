-- $1 not used for, $2 clock offset
WITH old AS MATERIALIZED (
    SELECT id FROM referral_payments
    WHERE used_at < (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $2 - $1
    ORDER BY used_at LIMIT 1000 FOR UPDATE SKIP LOCKED
), unlinked AS (
    DELETE FROM referral_payment_links WHERE id IN (SELECT id FROM old)
)
DELETE FROM referral_payments WHERE id IN (SELECT id FROM old)
RETURNING used_at AS seq
