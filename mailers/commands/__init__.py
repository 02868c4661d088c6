"""What mail can do on its own."""
