-- $1 now
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox WHERE open LIMIT 100000)) AS open,
    (SELECT $1 - min(created_at) FROM (SELECT created_at FROM referral_outbox WHERE open
        ORDER BY not_before, seq LIMIT 100)) AS oldest,
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox
        WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'failed'
        LIMIT 10000)) AS failed,
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox
        WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'ambiguous'
        LIMIT 10000)) AS ambiguous,
    (SELECT count(*) FROM (SELECT 1 FROM referral_outbox
        WHERE state IN ('failed', 'ambiguous', 'unreadable') AND state = 'unreadable'
        LIMIT 10000)) AS unreadable
