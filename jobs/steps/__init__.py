"""Steps of long jobs: what a job has done is recorded as it goes, so an interrupted job goes on where it was."""
