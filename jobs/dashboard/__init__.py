"""The dashboard in Django's admin: pages that show `inspection` and `statistics`, and change through `control`."""
