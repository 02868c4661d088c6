"""The part of a page that follows one job."""
