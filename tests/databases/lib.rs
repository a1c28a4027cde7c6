//! The layer over the stores of tower-sessions: see the test.
