WITH input AS MATERIALIZED (
    SELECT $1::text::jsonb AS report
), locked AS MATERIALIZED (
    SELECT report, pg_advisory_xact_lock(hashtextextended(referral_sequence_key(report), 0))
    FROM input
)
INSERT INTO referral_outbox AS r (report)
SELECT report FROM locked
