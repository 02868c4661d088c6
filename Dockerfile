# One image, run as the web server, as a worker or for a single command:
#   docker run ... jiki
#   docker run ... jiki python manage.py rqworker critical default mailers background low
#   docker run ... jiki python manage.py migrate
# SECRET_KEY, DATABASE_URL, REDIS_URL, EMAIL_URL and SITE_URL come from the environment.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
WORKDIR /app
# Before the code: this layer is made again only when the lock changes.
COPY requirements.txt .
RUN /venv/bin/pip install --require-hashes --no-deps -r requirements.txt
COPY . .
# Nothing of this key or address is in the result.
RUN SECRET_KEY=unused REDIS_URL=redis://unused /venv/bin/python manage.py collectstatic --no-input \
 && /venv/bin/python -m compileall -q config jiki jobs mailers users

FROM python:3.13-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin jiki
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
USER jiki
EXPOSE 8000
# WEB_CONCURRENCY sets the number of processes.
CMD ["gunicorn", "config.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
