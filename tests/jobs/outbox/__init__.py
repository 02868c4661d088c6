"""The outbox: durable jobs."""
