// Production: see docs/architecture.md.
