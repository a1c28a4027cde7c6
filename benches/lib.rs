//! What the layer costs: see the benches.
