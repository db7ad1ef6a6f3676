"""Layer maps, presets, adaptors and projections."""
