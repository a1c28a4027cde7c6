-- $1 clock offset
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox WHERE open LIMIT 100000) AS o) AS open,
    (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $1 - min(created_at)
        FROM (SELECT created_at FROM referral_outbox WHERE open ORDER BY not_before, seq
            LIMIT 100) AS o) AS oldest,
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox
        WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'failed'
        LIMIT 10000) AS o) AS failed,
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox
        WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'ambiguous'
        LIMIT 10000) AS o) AS ambiguous,
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox
        WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'unreadable'
        LIMIT 10000) AS o) AS unreadable
