INSERT INTO referral_outbox AS r (report)
SELECT $1 WHERE true
