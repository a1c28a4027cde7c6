-- $1 row, $2 token, $3 IDs
UPDATE referral_outbox
SET platform_ids = CASE WHEN erased THEN platform_ids
    ELSE coalesce(platform_ids, '{}') || $3::text::jsonb END
WHERE seq = $1
RETURNING claimed_by IS NOT DISTINCT FROM $2 AND open AS is_held
