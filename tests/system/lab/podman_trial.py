"""Run the image with Podman as docs/containers.md says, and print as JSON what its containers saw.

    unshare --mount --net python -m tests.system.lab.podman_trial STORE FOLDER

The containers' networks, AWS and what Podman keeps in /run end with the namespaces. Podman does not start
containers below a mixed /sys/fs/cgroup, nor with limits above the machine's own: both are made to fit.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from tests.standins.aws_process import Aws
from tests.standins.daemon import settings_for
from tests.standins.processes import Child, bare_environment
from tests.system.lab.podman import IMAGE, podman_command

_AWS_ADDRESS = "10.9.9.9"
_CONFINED = ["--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
_HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
_PORT_80 = "--sysctl=net.ipv4.ip_unprivileged_port_start=0"
_ASK = """
import json, urllib.error, urllib.request as client
base = "http://169.254.169.254/latest/"
def ask(path, method="GET", **headers):
    request = client.Request(base + path, method=method, headers={
        name.replace("_", "-"): value for name, value in headers.items()})
    try:
        return client.urlopen(request, timeout=5).read().decode()
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None  # no way there
token = ask("api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
where = "meta-data/iam/security-credentials/"
role = ask(where, X_aws_ec2_metadata_token=token) if isinstance(token, str) else token
key = json.loads(ask(where + role, X_aws_ec2_metadata_token=token)) if isinstance(role, str) else {}
print(json.dumps({"role": role, "key": key.get("AccessKeyId")}))
"""
_ASK_WITH_TOKEN = """
import json, sys, urllib.error, urllib.request as client
url, token = sys.argv[1:]
try:
    found = json.load(client.urlopen(client.Request(url, headers={"Authorization": token}), timeout=5))
    print(json.dumps({"role": found["RoleArn"].rpartition("/")[2], "key": found["AccessKeyId"]}))
except urllib.error.HTTPError as error:
    print(json.dumps({"role": error.code, "key": None}))
"""


def main(store: Path, folder: Path) -> dict[str, object]:
    """Return what was seen, by what it is."""
    _prepare()
    aws_process = Child(
        "aws",
        [sys.executable, "-m", "tests.standins.aws", "--host", _AWS_ADDRESS],
        folder=folder,
        environment=bare_environment(),
    )
    try:
        (line,) = aws_process.await_lines(r'(\{"url".*\})', on="stdout", timeout=60)
        aws = Aws(**json.loads(line))
        aws.add_roles("roleprefix-tuvfoo", "roleprefix-probar", "pods-web")
        return _try(store, folder, aws)
    finally:
        aws_process.kill()


def _prepare() -> None:
    for words in (
        "mount --make-rprivate /",
        "umount --recursive /sys/fs/cgroup",
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        "mount -t tmpfs tmpfs /run",
        "ip link set lo up",
        f"ip address add {_AWS_ADDRESS}/32 dev lo",
        "sysctl -q -w net.ipv4.ip_forward=1",
    ):
        subprocess.run(words.split(), check=True, timeout=30)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def _settings(aws: Aws) -> dict[str, object]:
    settings = settings_for(
        aws,
        listen=[
            {
                "address": "169.254.169.254",
                "provider": "machines",
                "callers": ["169.254.169.0/24"],
                "callers_except": ["169.254.169.1"],
            },
            {
                "address": "169.254.169.254:8081",
                "provider": "pods",
                "callers": ["169.254.169.0/24"],
                "container": {"identity": "workload"},
            },
        ],
        hosts={
            "169.254.169.2": "tuvfoo42.valid.example",
            "169.254.169.3": "berbar07.valid.example",
        },
        admin={"address": "127.0.0.1"},
    )
    grant = {"workloads": ["web.pods.example"], "account": "main", "role": "pods-web"}
    settings["providers"]["pods"] = {"type": "simple", "grants": [grant]}
    # Nobody answers there and nothing is confirmed: what is not in `hosts` gets nothing.
    settings["dns"] = {"nameservers": ["127.0.0.1:1"], "recheck": "0s", "stale": "0s"}
    return settings


def _try(store: Path, folder: Path, aws: Aws) -> dict[str, object]:
    def podman(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*podman_command(store), *words]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, env=bare_environment()
        )
        if check and done.returncode:
            raise RuntimeError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def ask(address: str) -> object:
        network = f"--network=metadata:ip={address}"
        program = ["--entrypoint=python3", IMAGE, "-c", _ASK]
        return json.loads(podman("run", "--rm", *_CONFINED, network, *program).stdout)

    configuration = folder / "imds-proxy.yaml"
    configuration.write_text(json.dumps(_settings(aws)), "utf-8")
    configuration.chmod(0o400)
    subprocess.run(["chown", "10077:10077", str(configuration)], check=True)
    podman(
        "network", "create", "--subnet=169.254.169.0/24", "--gateway=169.254.169.1", "--internal", "metadata"
    )
    podman("network", "create", "--subnet=10.99.7.0/24", "egress")
    networks = ["--network=metadata:ip=169.254.169.254", "--network=egress"]
    mounts = [
        f"--volume={configuration}:/etc/imds-proxy/imds-proxy.yaml:ro",
        "--tmpfs=/run/imds-proxy:mode=0777",
    ]
    name = "--name=imds-proxy"
    podman("run", "--detach", name, *_CONFINED, *_HARDENED, _PORT_80, *networks, *mounts, IMAGE)

    def inside(*words: str) -> subprocess.CompletedProcess[str]:
        return podman("exec", "imds-proxy", *words, check=False)

    seen: dict[str, object] = {}
    try:
        for _ in range(60):
            seen["health"] = podman("healthcheck", "run", "imds-proxy", check=False).returncode
            if seen["health"] == 0:
                break
        seen["uid"] = inside("id", "-u").stdout.strip()
        seen["writes"] = inside("touch", "/var/lib/imds-proxy/x").returncode
        seen["capabilities"] = inside("grep", "CapEff", "/proc/1/status").stdout.split()[-1]
        seen["tuvfoo"] = ask("169.254.169.2")
        seen["berbar"] = ask("169.254.169.3")
        before = len(aws.calls())
        seen["unknown"] = ask("169.254.169.4")
        seen["on_the_host"] = _run_on_the_host(_ASK)
        token = inside("imds-proxy", "token", "web.pods.example", "--from", "169.254.169.0/24").stdout.strip()
        url = "http://169.254.169.254:8081/v1/credentials"
        for key, shown in (("workload", token), ("wrong_token", token[:-4] + "AAAA")):
            if key == "workload":
                seen["refused_calls"] = len(aws.calls()) - before
            before = len(aws.calls())
            program = ["--entrypoint=python3", IMAGE, "-c", _ASK_WITH_TOKEN, url, shown]
            network = "--network=metadata:ip=169.254.169.4"
            seen[key] = json.loads(podman("run", "--rm", *_CONFINED, network, *program).stdout)
        seen["wrong_token_calls"] = len(aws.calls()) - before
        seen["arns"] = {call.access_key_id: call.role_arn for call in aws.calls()}
        seen["explained"] = inside("imds-proxy", "explain", "169.254.169.1").stdout
        podman("stop", "imds-proxy")
        state = podman("inspect", "imds-proxy", "--format={{.State.ExitCode}}")
        seen["exit_status"] = state.stdout.strip()
    finally:
        log = podman("logs", "imds-proxy", check=False)
        seen["log"] = log.stdout + log.stderr
        podman("rm", "--force", "--time=1", "imds-proxy", check=False)
    return seen


def _run_on_the_host(program: str) -> object:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")
