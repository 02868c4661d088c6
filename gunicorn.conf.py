"""gunicorn reads this from the working directory; the command line wins over it."""

worker_class = "config.gunicorn_worker.TimedWorker"
threads = 4  # in each process, so that a slow request does not hold up the health check
