INSERT INTO referral_outbox AS r (report)
SELECT value FROM json_each($1) WHERE true ORDER BY key
