"""One commit: durable jobs in the transaction that defers them, receipts in the transaction of an atomic command."""
