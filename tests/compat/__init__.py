"""What RQ's and django-rq's own code enqueues and reads, with our worker."""
