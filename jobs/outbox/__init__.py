"""The outbox: durable jobs are rows in the database until Redis has them."""
