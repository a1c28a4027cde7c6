-- $1 changes, $2 now
DELETE FROM referral_payments WHERE id IN (SELECT value FROM json_each($1, '$.removed'))
