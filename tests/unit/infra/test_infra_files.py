"""Every file of infra/ is good, and each checker refuses one that is not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from infra import check, checkers, hardening
from mgc.version import __version__

INFRA = checkers.ROOT / "infra"

IMAGE = f"mgc:{__version__}"

NO_SCHEMAS = "KUBERAY_SCHEMAS names no folder"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of infra/ to be broken."""
    return Path(shutil.copytree(INFRA, tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def schemas() -> Path | None:
    named = os.environ.get("KUBERAY_SCHEMAS")
    return Path(named) if named and Path(named).is_dir() else None


MOVES = [
    ("kuberay/raycluster.yaml", f"image: {IMAGE}-gpu", "image: mgc:gpu", "image mgc:gpu is not that of mgc"),
    ("kuberay/raycluster.yaml", f"image: {IMAGE}-cpu", "image: mgc:0.0.9-cpu", "ray-head: image mgc:0.0.9-cpu"),
    ("kuberay/raycronjob-label.yaml", f"image: {IMAGE}-cpu", "image: mgc", "ray-job-submitter: image mgc is not"),
    (
        "kuberay/raycronjob-label.yaml",
        "capacity-type: on-demand",
        "capacity-type: spot",
        "headGroupSpec: no node",
    ),
    ("kuberay/raycronjob-vacuum.yaml", 'do-not-disrupt: "true", ', "x: y, ", "no annotation karpenter.sh/do-not-dis"),
    ("kuberay/rayjob-train.yaml", 'safe-to-evict: "false"', 'safe-to-evict: "true"', "no annotation cluster-auto"),
    ("kuberay/rayjob-train.yaml", "imagePullSecrets: [{name: mgc-registry}]", "x: 1", "no imagePullSecrets"),
    ("kuberay/raycluster.yaml", "memory: 24Gi, ephemeral-storage: 20Gi}\n", "memory: 24Gi}\n", "requests lacks ephem"),
    ("kuberay/raycluster.yaml", 'limits: {cpu: "8"', 'limits: {cpu: "16"', "ray-worker: resources.limits differ"),
    ("kuberay/raycronjob-label.yaml", "maxReplicas: 20", "maxReplicas: 30", "MGC_NODES is '20x8', and workerGr"),
    ("kuberay/rayjob-train.yaml", '{name: MGC_NODES, value: "4x4,2x4+1"}', "{name: X, value: x}", "MGC_NODES is ''"),
    ("aws/ray-cluster.yaml", "max_workers: 20", "max_workers: 10", "MGC_NODES of the head's command"),
    ("aws/ray-cluster.yaml", "resources: {CPU: 8}", "resources: {}", "MGC_NODES of the head's command"),
    ("aws/ray-cluster.yaml", "docker login", "echo", "no initialization command logs in at REGISTRY"),
    ("aws/ray-cluster.yaml", "    - --cap-drop", "    - --shm-size=4g\n    - --cap-drop", "--shm-size=4g keeps Ray"),
]
"""Images that may change under a running cluster, heads that may go, nodes without what Ray counts on, and jobs that do
not hear of the nodes that may start."""


@pytest.mark.parametrize(("name", "good", "bad", "said"), MOVES)
def test_pods_stay_and_run_this_mgc(name: str, good: str, bad: str, said: str, copied: Path) -> None:
    assert_refused(copied / name, good, bad, said, copied, None)


@pytest.mark.filterwarnings("default")
def test_all_is_good(schemas: Path | None) -> None:
    wrong, skipped, passed = check.run(INFRA, schemas)
    assert wrong == []
    assert any(NO_SCHEMAS in line for line in skipped) == (schemas is None)
    assert {"YAML", "KubeRay", "ray up", "HCL", "PromQL", "dashboard", "cron", "bash"} <= passed.keys()
    assert {"packages", "settings", "logrotate"} <= passed.keys()


BROKEN = [
    ("kuberay/raycluster.yaml", "minReplicas: 0\n", "minReplicas: none\n", "minReplicas"),
    ("kuberay/raycluster.yaml", "rayVersion: 2.60.0", "rayRelease: 2.60.0", "rayRelease"),
    ("kuberay/raycluster.yaml", f"            image: {IMAGE}-cpu", f"            imag: {IMAGE}-cpu", "imag"),
    ("kuberay/raycronjob-label.yaml", "schedule: 0 1 * * *", "cron: 0 1 * * *", "schedule"),
    (
        "kuberay/raycronjob-label.yaml",
        "  timeZone: Europe/Berlin\n",
        "  concurrencyPolicy: Forbid\n",
        "concurrencyPolicy",
    ),
    ("kuberay/rayjob-train.yaml", "kind: RayJob", "kind: RayJobb", "rayjobbs.v1.json"),
]
"""What only KubeRay's schemas know."""


@pytest.mark.parametrize(("name", "good", "bad", "said"), BROKEN)
def test_kuberay_refuses(name: str, good: str, bad: str, said: str, copied: Path, schemas: Path | None) -> None:
    if schemas is None:
        pytest.skip("KUBERAY_SCHEMAS names no folder")
    assert_refused(copied / name, good, bad, said, copied, schemas)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("kuberay/rayjob-train.yaml", "--recipe house", "--receipt house", "--receipt"),
        ("kuberay/rayjob-train.yaml", "--workers 2", "--workers 3", "3 training workers, each with a GPU"),
        ("kuberay/rayjob-train.yaml", "nvidia.com/gpu: \"1\", ephemeral-storage: 40Gi}\n                  limits: "
         "{cpu: \"4\", memory: 24Gi, nvidia.com/gpu: \"1\"", "ephemeral-storage: 40Gi}\n                  limits: "
         "{cpu: \"4\", memory: 24Gi", "profile decoders-and-gpus needs 1 GPU(s)"),
        ("kuberay/raycronjob-vacuum.yaml", "--older-than 30d", "--older 30d", "--older"),
        ("kuberay/raycronjob-vacuum.yaml", "30 7 * * 0", "30 7 31 2 *", "schedule '30 7 31 2 *'"),
        ("kuberay/rayjob-train.yaml", "mgc train", "mgc drain", "no command of mgc"),
        ("kuberay/raycronjob-label.yaml", " s3://mgc-labels/labels\n", "\n", "takes SOURCE and LABELS"),
        ("kuberay/raycluster.yaml", "  rayVersion: 2.60.0\n", "  rayVersion: 2.60.0\n  rayVersion: 2.60.0\n", "dup"),
        ("aws/ray-cluster.yaml", "max_workers: 24", "max_workers: many", "max_workers"),
        ("aws/ray-cluster.yaml", "idle_timeout_minutes", "idle_minutes", "idle_minutes"),
        ("aws/ray-cluster.yaml", "head_node_type: head", "head_node_type: tail", "must be one of"),
        ("aws/roles.tf", "  statement {\n", "  statement \n", "roles.tf"),
        ("aws/roles.tf", "aws_iam_role.head.id", "aws_iam_role.tail.id", "aws_iam_role.tail is not declared"),
        ("aws/buckets.tf", "var.staged_days", "var.staging_days", "var.staging_days is not declared"),
        ("monitoring/alerts.yml", "> 26 * 3600", "> > 26", "MgcNightMissed"),
        ("monitoring/alerts.yml", "(ray_mgc_errors_total{", "(ray_mgc_faults_total{", "nothing exports ray_mgc_faults"),
        ("monitoring/alerts.yml", "what_to_do: \"ray_mgc", "todo: \"ray_mgc", "lacks summary or what_to_do"),
        ("monitoring/grafana/mgc-nights.json", "ray_mgc_tracks_total", "ray_mgc_songs_total", "ray_mgc_songs_total"),
        ("monitoring/grafana/mgc-nights.json", '"id": 2,', '"id": 1,', "panel id 1 is there twice"),
        ("monitoring/grafana/mgc-nights.json", "sum by (status)", "sum by status", "Tracks a second"),
        ("schedules/mgc-night.cron", "5 1 * * * mgc", "5 25 * * * mgc", "line 7"),
        ("schedules/mgc-night.cron", "5 1 * * * mgc", "5 1 * * * *", "is no user"),
        ("schedules/mgc-night.cron", "vacuum s3", "vacum s3", "vacum"),
        ("schedules/mgc-night.cron", "--older-than 30d", "--older-than %30d", "line break"),
        ("schedules/mgc-night.cron", "s3://mgc-labels/labels >>", "s3://mgc-labels/labels --alarm flip=1 >>", "flip"),
        ("schedules/mgc-night.logrotate", "/night.log {", "/nights.log {", "night.log, which nothing rotates"),
        ("schedules/night.env", "=eu-central-1", "='eu-central-1'", "line 6"),
        ("schedules/night.env", "\nMGC_BIN", "\nexport MGC_BIN", "line 3"),
        ("schedules/night", "--until \"$until\"", "--till \"$until\"", "--till"),
        ("docker/Dockerfile", "FROM ${BASE} AS cpu", "FROM python:3.11 AS cpu", "FROM python:3.11: it is not ${BASE}"),
        ("docker/Dockerfile", "build --build-arg BASE=$base", "build", "names no --build-arg BASE"),
        ("docker/Dockerfile", "COPY tune tune\n", "", "no COPY of the package tune"),
        ("docker/Dockerfile", "'cluster', 'tune', ", "'cluster', ", "does not import the package tune"),
        ("docker/Dockerfile.dockerignore", "!tune\n", "", "!tune is missing"),
        ("docker/Dockerfile.dockerignore", "!tune\n", "!tune\n!tests\n", "!tests is sent"),
        ("docker/Dockerfile", f"-t {IMAGE}-cpu .", "-t mgc:cpu .", "image mgc:cpu is not that of mgc"),
        ("README.md", f"-t REGISTRY/{IMAGE}-gpu .", "-t REGISTRY/mgc:0.1.0-gpu .", "image mgc:0.1.0-gpu is not that"),
        ("schedules/night", "fi\n", "", "syntax error"),
    ],
)  # fmt: skip
def test_refused(name: str, good: str, bad: str, said: str, copied: Path) -> None:
    assert_refused(copied / name, good, bad, said, copied, None)


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("kuberay/raycluster.yaml", "    mode: token", "    mode: disabled", "spec: authOptions.mode is not token"),
        ("kuberay/rayjob-train.yaml", "    authOptions:\n      mode: token\n", "", "rayClusterSpec: authOptions.mode"),
        ("kuberay/raycronjob-label.yaml", "      authOptions:\n        mode: token\n", "", "rayClusterSpec: authOpti"),
        ("kuberay/rayjob-train.yaml", "  submitterPodTemplate:", "  submitter:", "lacks submitterPodTemplate"),
        ("kuberay/raycluster.yaml", "automountServiceAccountToken: false", "x: 1", "automountServiceAccount"),
        ("kuberay/raycluster.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot is not true"),
        ("kuberay/raycluster.yaml", "seccompProfile: {type: RuntimeDefault}", "x: 1", "seccompProfile.type"),
        ("kuberay/raycluster.yaml", "runAsNonRoot: true", "x: 1}\n        hostPID: true\n        y: {z: 1",
         "shares the node's network"),
        ("kuberay/raycluster.yaml", "capabilities: {drop: [ALL]}", "privileged: true", "autoscalerOptions: security"),
        ("kuberay/raycluster.yaml", "        labels: {app.kubernetes.io/name: mgc}", "        labels: {app: mgc}",
         "headGroupSpec.template: no NetworkPolicy"),
        ("aws/ray-cluster.yaml", "RAY_AUTH_MODE=token MGC", "MGC", "starts a Ray without RAY_AUTH_MODE=token"),
        ("aws/ray-cluster.yaml", "RAY_AUTH_MODE=token ray start --address", "ray start --address", "a Ray without"),
        ("aws/ray-cluster.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "dashboard on 0.0.0.0"),
        ("aws/ray-cluster.yaml", "/home/ray/.ray/auth_token:", "/home/ray/token:", "brings no .ray/auth_token"),
        ("aws/ray-cluster.yaml", f"image: REGISTRY/{IMAGE}-gpu", "image: mgc:gpu", "image mgc:gpu is not that of mgc"),
        ("aws/ray-cluster.yaml", "    - --cap-drop=ALL\n", "", "lacks --cap-drop=ALL"),
    ],
)  # fmt: skip
def test_open_doors_are_refused(name: str, good: str, bad: str, said: str, copied: Path) -> None:
    assert_refused(copied / name, good, bad, said, copied, None)


def test_a_network_policy_that_lets_everybody_in_covers_no_pod(copied: Path) -> None:
    policy = copied / "kuberay" / "network-policy.yaml"
    for good, bad in (
        (" ingress:\n    - from:", " ingress:\n    - {}\n    - from:"),
        ("[Ingress, Egress]", "[Egress]"),
    ):
        text = policy.read_text()
        assert hardening.kuberay(copied / "kuberay" / "raycluster.yaml") == []
        policy.write_text(text.replace(good, bad, 1))
        wrong = hardening.kuberay(copied / "kuberay" / "raycluster.yaml")
        assert [line.partition(":")[0] for line in wrong] == [
            "spec.headGroupSpec.template",
            "spec.workerGroupSpecs[0].template",
            "spec.workerGroupSpecs[1].template",
        ]
        policy.write_text(text)


@pytest.mark.parametrize(
    ("program", "name", "good", "bad", "said"),
    [
        ("promtool", "monitoring/prometheus.yml", "scrape_interval: 15s", "scrape_interval: often", "often"),
        ("promtool", "monitoring/prometheus-cluster.yml", "action: keep", "action: hold", "hold"),
        ("promtool", "monitoring/alerts.yml", "for: 1h", "for: ever", "ever"),
        ("promtool", "monitoring/alerts.yml", "> 26 * 3600", "> 36 * 3600", "MgcNightMissed"),
        ("terraform", "aws/outputs.tf", "  value       =", "  value =", "terraform fmt would change it"),
        ("hadolint", "docker/Dockerfile", "WORKDIR /src", "WORKDIR src", "DL3000"),
        ("hadolint", "docker/Dockerfile", "USER 1000", "USR 1000", "unexpected"),
        ("hadolint", "docker/Dockerfile", "COPY cluster", "COPY clusters", "there is no such file"),
        ("systemd-analyze", "schedules/mgc-vacuum.service", "--older-than", "--older", "--older"),
        ("systemd-analyze", "schedules/mgc-night.timer", "*-*-* 01:05:00", "nightly", "calendar"),
        ("systemd-analyze", "schedules/mgc-night.service", "schedules/night", "schedules/day", "not executable"),
    ],
)  # fmt: skip
def test_refused_by_a_program(program: str, name: str, good: str, bad: str, said: str, copied: Path) -> None:
    beside = Path(os.sys.executable).with_name(program)  # type: ignore[attr-defined]
    if shutil.which(program) is None and not beside.exists():
        pytest.skip(f"{program} is not installed")
    assert_refused(copied / name, good, bad, said, copied, None)


def assert_refused(file: Path, good: str, bad: str, said: str, folder: Path, schemas: Path | None) -> None:
    text = file.read_text()
    assert good in text
    file.write_text(text.replace(good, bad, 1))
    wrong = [
        line
        for _, path, checker in check.checks(folder, schemas)
        if path == file or path == file.parent
        for line in _found(checker, path)
    ]
    assert any(said in line for line in wrong), wrong


def _found(checker: object, path: Path) -> list[str]:
    try:
        return checker(path)  # type: ignore[operator,no-any-return]
    except checkers.Skip:
        return []


def test_a_file_that_no_checker_knows(copied: Path) -> None:
    (copied / "aws" / "notes.txt").write_text("x")
    (copied / "kuberay" / "more.json").write_text("{}")
    known = {path for _, path, _ in check.checks(copied, None)}
    assert copied / "kuberay" / "more.json" not in known
    wrong = check.run(copied / "kuberay", None)[0]
    assert any("more.json: no checker knows such a file" in line for line in wrong)


def test_counters_are_those_of_the_code() -> None:
    """README names these; the dashboards may ask for no others."""
    counted = {name for name in checkers.own_metrics() if name.startswith("ray_mgc_")}
    assert {"ray_mgc_tracks_total", "ray_mgc_errors_total", "ray_mgc_read_bytes_total"} <= counted
    shown = " ".join(file.read_text() for file in (INFRA / "monitoring" / "grafana").glob("*.json"))
    assert all(name in shown for name in checkers.own_metrics() if name.startswith("ray_mgc_")), counted


def statements(policy: str) -> list[tuple[set[str], str]]:
    """Actions and resources of the statements of a policy document of roles.tf."""
    import hcl2

    module = hcl2.loads((INFRA / "aws" / "roles.tf").read_text())
    documents = {
        name.strip('"'): body for block in module["data"] for named in block.values() for name, body in named.items()
    }
    return [
        ({action.strip('"') for action in each["actions"]}, json.dumps(each["resources"]))
        for each in documents[policy]["statement"]
    ]


@pytest.mark.parametrize(("policy", "writes"), [("labeling", "labels"), ("training", "training")])
def test_roles_write_to_their_own_bucket_only(policy: str, writes: str) -> None:
    allowed = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket"}
    for actions, resources in statements(policy):
        assert actions <= allowed
        if actions & {"s3:PutObject", "s3:DeleteObject"}:
            named = set(re.findall(r"aws_s3_bucket\.this\[\W*(\w+)", resources))
            assert named == {writes}, resources


def test_every_bucket_is_closed_encrypted_and_versioned() -> None:
    text = (INFRA / "aws" / "buckets.tf").read_text()
    for kind in (
        "public_access_block",
        "versioning",
        "server_side_encryption_configuration",
        "lifecycle_configuration",
    ):
        found = re.search(rf'resource "aws_s3_bucket_{kind}" "this" {{\n  for_each = aws_s3_bucket.this\n', text)
        assert found, kind
    assert len(re.findall(r"^  (?:block|ignore|restrict)_public_\w+ += true$", text, re.MULTILINE)) == 4


def test_service_accounts_are_roles() -> None:
    roles = set(
        re.findall(r"^    (\w+) = data.aws_iam_policy_document", (INFRA / "aws" / "roles.tf").read_text(), re.M)
    )
    for file in (INFRA / "kuberay").glob("ray*.yaml"):
        used = set(re.findall(r"serviceAccountName: mgc-(\w+)", file.read_text()))
        assert used
        assert used <= roles


def test_a_documented_build_that_pins_no_base(copied: Path) -> None:
    readme, file = copied / "README.md", copied / "docker" / "Dockerfile"
    assert hardening.image(file) == []
    readme.write_text(readme.read_text().replace("--build-arg BASE=$base ", "", 1))
    (wrong,) = hardening.image(file)
    assert wrong.startswith("docker build -f infra/docker/Dockerfile --target cpu")
