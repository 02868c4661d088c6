"""The part of a page that follows one job: behind a signed link, for people who may see this job and nothing else."""
