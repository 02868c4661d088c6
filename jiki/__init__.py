"""The product: what learners do on Jiki."""
