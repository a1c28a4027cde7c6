-- $1 worker
DELETE FROM referral_workers WHERE worker = $1
