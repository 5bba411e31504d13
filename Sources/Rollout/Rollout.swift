// Rollout: see docs/architecture.md.
