"""The dashboard in Django's admin: its pages show data of `inspection` and make changes through `control`."""
