// VideoIO: see docs/architecture.md.
