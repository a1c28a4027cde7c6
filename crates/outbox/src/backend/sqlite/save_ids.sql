-- $1 row, $2 token, $3 IDs
UPDATE referral_outbox
SET platform_ids = CASE WHEN erased THEN platform_ids
    ELSE json_patch(coalesce(platform_ids, '{}'), $3) END
WHERE seq = $1
RETURNING claimed_by IS $2 AND open AS is_held
