// Compute: see docs/architecture.md.
