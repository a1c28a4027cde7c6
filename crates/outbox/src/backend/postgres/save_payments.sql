-- $1 reports, $2 IDs of records to remove, $3 IDs, $4 customers and $5 texts of records to store,
-- $6 links and $7 the IDs of their records, $8 IDs of records that were needed, $9 clock offset
WITH removed AS (
    DELETE FROM referral_payments WHERE id = ANY ($2)
), unlinked AS (
    DELETE FROM referral_payment_links AS l
    WHERE l.id = ANY ($2) OR (l.id = ANY ($3) AND NOT EXISTS (
        SELECT 1 FROM unnest($6, $7) AS n (link, id) WHERE n.link = l.link AND n.id = l.id
    ))
), linked AS (
    INSERT INTO referral_payment_links (link, id)
    SELECT link, id FROM unnest($6, $7) AS n (link, id)
    ON CONFLICT DO NOTHING
), saved AS (
    INSERT INTO referral_payments (id, customer, record, used_at)
    SELECT id, customer, record, (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $9
    FROM unnest($3, $4, $5) AS n (id, customer, record)
    ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, record = excluded.record,
        used_at = excluded.used_at
), used AS (
    -- Once a day is enough.
    UPDATE referral_payments
    SET used_at = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $9
    WHERE id = ANY ($8)
        AND used_at < (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $9 - 86400000
), reported AS (
