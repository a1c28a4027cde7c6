-- $1 changes, $2 now
UPDATE referral_payments SET used_at = $2
WHERE id IN (SELECT value FROM json_each($1, '$.used')) AND used_at < $2 - 86400000
