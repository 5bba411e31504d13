// SparseAttention: see docs/architecture.md.
