"""Where charges go: LiteLLM's database, webhooks; each behind a spool of its own."""
