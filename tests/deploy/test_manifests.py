"""compose.yaml, the systemd units and the Kubernetes manifest: valid, and in step with the worker's own times."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from config.queues import QUEUES
from config.requests import MOST_BYTES
from jobs.worker.child import GRACE
from jobs.worker.interruptions import INTERRUPT_GRACE
from tests.jobs.worker.servers import Server

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE, KUBERNETES = ROOT / "compose.yaml", ROOT / "deploy/kubernetes.yaml"
ANALYZE = shutil.which("systemd-analyze")
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
STOPS_WITHIN = GRACE + INTERRUPT_GRACE  # seconds; then the worker is gone by itself
GUNICORN_GRACE = 30  # seconds: the default of its --graceful-timeout


def read(path):
    return list(YAML(typ="safe").load_all(path))


# --- the proxy -------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_reads_its_file(tmp_path):
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    server = f"server {{ listen 127.0.0.1:18080; include {ROOT}/deploy/nginx.conf; }}"
    (tmp_path / "all.conf").write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {paths} {server} }}")
    done = subprocess.run(
        [shutil.which("nginx"), "-t", "-c", str(tmp_path / "all.conf")], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_the_files_of_proxies_limit_the_size_and_replace_what_the_client_says():
    nginx, caddy = ((ROOT / "deploy" / name).read_text() for name in ("nginx.conf", "Caddyfile"))
    assert f"client_max_body_size {MOST_BYTES // 1_000_000}m;" in nginx
    assert f"max_size {MOST_BYTES // 1_000_000}MB" in caddy
    assert "X-Forwarded-For $remote_addr;" in nginx
    assert "X-Forwarded-For {remote_host}" in caddy


def test_what_lies_in_memory_has_a_size(services):
    for name in ("web", "worker", "migrate"):
        assert all(re.search(r"size=\d+m", each) for each in services[name]["tmpfs"])
    for part in read(KUBERNETES):
        for volume in part.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", []):
            assert volume["emptyDir"]["sizeLimit"]


# --- compose ---------------------------------------------------------------------------------


@pytest.fixture
def services():
    (compose,) = read(COMPOSE)
    return compose["services"]


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def test_compose_is_valid():
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_compose_tells_the_image_which_release_it_is(services):
    for name in ("web", "worker", "migrate"):
        assert services[name]["build"] == {"context": ".", "args": {"VERSION": "${VERSION:-}"}}


def test_compose_starts_things_in_order_and_leaves_them_time_to_stop(services):
    ready = {
        "migrate": {"condition": "service_completed_successfully"},
        "postgres": {"condition": "service_healthy"},
        "valkey": {"condition": "service_healthy"},
    }

    assert services["web"]["depends_on"] == services["worker"]["depends_on"] == ready
    assert all("healthcheck" in services[name] for name in ("postgres", "valkey"))
    assert services["migrate"]["restart"] == "no"
    assert seconds(services["worker"]["stop_grace_period"]) > STOPS_WITHIN
    assert seconds(services["web"]["stop_grace_period"]) > GUNICORN_GRACE


def test_compose_has_a_worker_for_every_queue_that_answers_the_images_health_check(services):
    words = services["worker"]["command"]
    at = words.index("--health-port")

    assert words[:at] == ["python", "manage.py", "rqworker", *QUEUES]
    assert f"127.0.0.1:{words[at + 1]}/healthz" in (ROOT / "Dockerfile").read_text()


def test_the_valkey_of_compose_keeps_what_it_accepted(services, tmp_path):
    server, *words = services["valkey"]["command"]
    pairs = [(name.removeprefix("--"), value) for name, value in zip(words[::2], words[1::2], strict=True)]
    values = {name: re.sub(r"\$\{\w+:-(.+)\}", r"\1", value) for name, value in pairs}
    lines = [f'{name} "{value}"' for name, value in values.items() if name != "save"]

    with Server(tmp_path / "valkey", *lines) as running, running.client(decode_responses=True) as client:
        told = {name: client.config_get(name)[name] for name in values}

    assert server == "valkey-server"
    wanted = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
    assert told == wanted | {
        "maxmemory": str(1024**3),
        "stream-node-max-bytes": "256",
        "hash-max-listpack-value": "512",
    }
    assert services["valkey"]["volumes"] == ["valkey:/data"]


@pytest.mark.parametrize("setting", ["SECRET_KEY", "SITE_URL", "POSTGRES_PASSWORD"])
def test_compose_does_not_start_without_what_only_a_person_knows(setting):
    assert f"${{{setting}:?" in COMPOSE.read_text()


# --- systemd ---------------------------------------------------------------------------------


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request):
    """Each unit, with the tests' own interpreter where the product's would be."""
    return request.param, request.param.read_text()


@pytest.mark.skipif(not ANALYZE, reason="there is no systemd here")
def test_the_units_are_valid_and_have_no_more_rights_than_they_need(unit, tmp_path):
    path, text = unit
    here = tmp_path / path.name
    here.write_text(text.replace("/srv/jiki/.venv/bin", str(Path(sys.executable).parent)))

    valid = subprocess.run([ANALYZE, "verify", here], capture_output=True, text=True)
    exposed = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--threshold=20", here], capture_output=True, text=True
    )

    assert (valid.returncode, valid.stderr) == (0, "")
    assert exposed.returncode == 0, exposed.stdout


def section(path, name):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return parser[name]


def test_the_workers_unit_waits_for_its_end_and_watches_it():
    service = section(ROOT / "deploy/systemd/jiki-worker.service", "Service")

    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert int(service["TimeoutStopSec"]) > STOPS_WITHIN
    assert int(service["WatchdogSec"]) <= 30
    assert service["ExecStart"].split()[1:] == ["manage.py", "rqworker", *QUEUES]


def test_the_webs_unit_is_told_when_it_is_ready():
    service = section(ROOT / "deploy/systemd/jiki-web.service", "Service")

    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) > GUNICORN_GRACE


# --- Kubernetes ------------------------------------------------------------------------------


@pytest.fixture
def objects():
    return {(each["kind"], each["metadata"]["name"]): each for each in read(KUBERNETES)}


def containers(objects):
    for each in objects.values():
        template = each.get("spec", {}).get("template")
        if template:
            for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
                yield template["spec"], container


@pytest.mark.parametrize("release", ["1.30", "1.37"])
def test_the_manifest_is_valid(objects, release):
    schemas = pytest.importorskip("kubernetes_validate", reason="no schemas: kubernetes-validate is not installed")
    for each in objects.values():
        schemas.validate(each, release, strict=True)


def test_there_is_what_a_release_needs(objects):
    assert set(objects) == {
        ("ConfigMap", "jiki"),
        ("Job", "jiki-migrate"),
        ("Deployment", "jiki-web"),
        ("Deployment", "jiki-worker"),
        ("Service", "jiki"),
    }


def test_the_service_leads_to_the_web_pods_and_to_no_others(objects):
    wanted = objects["Service", "jiki"]["spec"]["selector"]
    web, worker = (objects["Deployment", f"jiki-{name}"]["spec"]["template"] for name in ("web", "worker"))

    assert wanted == web["metadata"]["labels"]
    assert wanted != worker["metadata"]["labels"]
    (port,) = objects["Service", "jiki"]["spec"]["ports"]
    assert port["targetPort"] in {each["name"] for each in web["spec"]["containers"][0]["ports"]}


@pytest.mark.parametrize("name", ["jiki-web", "jiki-worker"])
def test_a_release_rolls_and_pods_are_asked_how_they_are(objects, name):
    deployment = objects["Deployment", name]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    (port,) = container["ports"]
    probes = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}

    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert {probe: asked["path"] for probe, asked in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {asked["port"] for asked in probes.values()} == {port["name"]}
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]


def test_pods_have_the_time_to_stop_that_their_processes_take(objects):
    web, worker = (objects["Deployment", f"jiki-{name}"]["spec"]["template"]["spec"] for name in ("web", "worker"))
    pause = web["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert worker["terminationGracePeriodSeconds"] > STOPS_WITHIN
    assert web["terminationGracePeriodSeconds"] > GUNICORN_GRACE + pause


def test_workers_of_a_new_release_wait_for_its_migrations(objects):
    pod = objects["Deployment", "jiki-worker"]["spec"]["template"]["spec"]
    (first,) = pod["initContainers"]

    assert first["command"] == ["python", "manage.py", "migrate", "--check"]


def test_workers_serve_every_queue_and_answer_where_they_are_asked(objects):
    (container,) = objects["Deployment", "jiki-worker"]["spec"]["template"]["spec"]["containers"]
    port = container["ports"][0]["containerPort"]

    assert container["command"] == ["python", "manage.py", "rqworker", *QUEUES, "--health-port", str(port)]


def test_pods_have_no_more_rights_than_they_need(objects):
    user = int(re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1])
    for pod, container in containers(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == user
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_secrets_are_named_and_not_written(objects):
    text = KUBERNETES.read_text()

    assert not [kind for kind, _ in objects if kind == "Secret"]
    for _, container in containers(objects):
        assert {"secretRef": {"name": "jiki"}} in container["envFrom"]
    assert "://user" not in text
