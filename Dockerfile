# One image, run as the web server, as a worker or for a single command:
#   docker run ... jiki
#   docker run ... jiki python manage.py rqworker --health-port 8000
#   docker run ... jiki python manage.py migrate
# What it needs of the environment: docs/reference.md. How to run it: docs/howto/run-in-production.md.

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
# By number, because Kubernetes cannot tell from a name that it is not root.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin jiki
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# Which release this is: docker build --build-arg VERSION=$(git rev-parse --short HEAD) ...
ARG VERSION=
ENV VERSION=$VERSION
USER 10001
EXPOSE 8000
# A worker answers here too, when it is started with --health-port 8000.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# WEB_CONCURRENCY sets the number of processes; gunicorn.conf.py has the rest.
CMD ["gunicorn", "config.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
