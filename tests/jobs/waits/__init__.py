"""`job.wait`, `job.await_result` and `self.report`, on a real server."""
