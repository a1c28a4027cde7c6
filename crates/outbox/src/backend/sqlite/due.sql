-- $1 now, $2 newest version that is read
SELECT EXISTS (SELECT 1 FROM referral_outbox WHERE open AND version <= $2 AND not_before <= $1)
