// WanModel: see docs/architecture.md.
