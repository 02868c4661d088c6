"""The template filters of the product."""
