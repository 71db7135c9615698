"""Check the files in infra/: one function for each kind of file. It returns a line for each fault, none if all is well.

Each function asks a real parser or validator. Some need a program that is not a package of `.venv` (promtool,
terraform, systemd-analyze); where it is missing, they raise `Skip`.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from cluster.session.profiles import GROWTH, NodeResources, growth
from infra.dockerfile import copied, steps

ROOT: Final = Path(__file__).parents[1]

_YAMLLINT: Final = {
    "extends": "default",
    "rules": {
        "line-length": {"max": 120},
        "document-start": "disable",
        "truthy": {"check-keys": False},
        "comments": {"min-spaces-from-content": 1},
        "braces": {"max-spaces-inside": 0},
    },
}

_TOOL_SECONDS: Final = 120


class Skip(Exception):  # noqa: N818
    """A check cannot be made here; the message says what is missing."""


def yaml_file(file: Path) -> list[str]:
    """Check layout, repeated keys and syntax with yamllint."""
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    found = linter.run(file.read_text(encoding="utf-8"), YamlLintConfig(json.dumps(_YAMLLINT)))
    return [f"line {each.line}: {each.desc}" for each in found]


def command_line(command: str) -> list[str]:
    """Check a command of mgc's with the job's own parser. A shell variable counts as its default value."""
    import click

    from mgc.errors import ConfigError
    from mgc.recipes.catalogue import find as find_recipe
    from pipelines.cli import JOBS, find
    from pipelines.command.options import overrides

    words = shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command), comments=True)
    program = Path(words[0]).name if words else ""
    if program in ("night", "mgc-night"):
        arguments = [word for word in words[1:] if ">" not in word]
        if len(arguments) < 2 or any(word.startswith("-") for word in arguments[:2]):
            return [f"{program} takes SOURCE and LABELS, not {arguments}"]
        program, words = "mgc", ["mgc", "label", arguments[0], "--labels", *arguments[1:]]
    if program != "mgc" or len(words) < 2 or words[1] not in JOBS:
        return [f"{command!r} is no command of mgc"]
    arguments = [word for word in words[2:] if not re.match(r"^\d?>", word)]
    try:
        job = find(words[1])
        if isinstance(job, click.Group):
            name, below, rest = job.resolve_command(click.Context(job), arguments)
            if below is not None:
                below.make_context(str(name), rest)
            return []
        given = job.make_context(f"mgc {words[1]}", arguments).params
        # Options that the job does not know are fields of the recipe.
        fields = overrides(given.get("fields", ()))
        if given.get("recipe"):
            find_recipe(given["recipe"]).build().override(fields)
    except click.ClickException as error:
        return [f"{command!r}: {error.format_message()}"]
    except ConfigError as error:
        return [f"{command!r}: {error}"]
    return []


def ray_up(file: Path) -> list[str]:
    """Check the configuration of `ray up`: Ray completes and validates it."""
    import jsonschema

    from cluster.session import ray_internals

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        ray_internals.check_autoscaler_config(config)
    except jsonschema.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message[:200]}"]
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        return [f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"]
    kinds = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    may_start = {
        NodeResources(float(kind["resources"].get("CPU", 0)), kind["resources"].get("GPU", 0)): kind["max_workers"]
        for kind in kinds
    }
    told = re.search(rf"{GROWTH}=(\S+)", " ".join(config["head_start_ray_commands"]))
    if told is None or growth(told[1]) != may_start:
        return [f"{GROWTH} of the head's command does not say what available_node_types says"]
    return list(_docker_of_ray_up(config))


def _docker_of_ray_up(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keeps machines from the image, or Ray's object store from their memory."""
    docker = config["docker"]
    registry, slash, _ = docker["image"].rpartition("/")
    logins = [each for each in config["initialization_commands"] if "docker login" in each]
    if slash and not any(each.endswith(f" {registry}") for each in logins):
        yield f"docker: no initialization command logs in at {registry}, so machines cannot fetch the image"
    for option in [each for name, options in docker.items() if name.endswith("run_options") for each in options]:
        if "--shm-size" in option:
            yield f"docker: {option} keeps Ray from sizing the object store's memory; leave it out"


def hcl(folder: Path) -> list[str]:
    """Check Terraform's files with an HCL parser. Whatever they refer to must be declared."""
    import hcl2
    from lark.exceptions import LarkError

    wrong: list[str] = []
    declared: set[str] = set()
    texts: dict[Path, str] = {}
    for file in sorted(folder.glob("*.tf")):
        text = file.read_text(encoding="utf-8")
        try:
            found = hcl2.loads(text)
        except (LarkError, ValueError) as error:
            wrong.append(f"{file.name}: {str(error).strip().splitlines()[0]}")
            continue
        texts[file] = "\n".join(line.partition("#")[0] for line in text.splitlines())
        declared |= set(_declared(found))
    used = re.compile(r"(?<![\w.\"/:-])((?:data\.)?aws_\w+\.\w+|var\.\w+|local\.\w+)")
    for file, text in texts.items():
        missing = {name for name in used.findall(text) if name not in declared}
        wrong += [f"{file.name}: {name} is not declared" for name in sorted(missing)]
    return wrong


def _declared(module: Mapping[str, Any]) -> Iterator[str]:
    for block in module.get("variable", ()):
        yield from (f"var.{_bare(name)}" for name in block)
    for block in module.get("locals", ()):
        yield from (f"local.{_bare(name)}" for name in block)
    for kind, prefix in (("resource", ""), ("data", "data.")):
        for block in module.get(kind, ()):
            for type_name, named in block.items():
                if isinstance(named, dict):
                    yield from (f"{prefix}{_bare(type_name)}.{_bare(name)}" for name in named)


def _bare(name: str) -> str:
    return name.strip('"')


def terraform_format(folder: Path) -> list[str]:
    """Check the layout with `terraform fmt -check`. `terraform validate` is not run: it needs a provider."""
    done = _tool("terraform", ["fmt", "-check", "-recursive", str(folder)])
    return [
        f"{Path(line).name}: terraform fmt would change it" for line in done.stdout.split() if line.endswith(".tf")
    ] or ([" ".join(done.stderr.split())[:300]] if done.returncode else [])


def dockerfile(file: Path) -> list[str]:
    """Check a Dockerfile with hadolint. Whatever it copies into the image must exist."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = _tool(str(hadolint) if hadolint.exists() else "hadolint", ["--no-color", "--format", "json", str(file)])
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError:
        return [" ".join((done.stdout + done.stderr).split())[:300]]
    wrong = [f"line {each['line']}: {each['code']} {' '.join(each['message'].split())}" for each in found]
    for stage, sources, _ in [copied(rest) for word, rest in steps(file) if word == "COPY"]:
        missing = [] if stage else [source for source in sources if not (ROOT / source).exists()]
        wrong += [f"COPY {source}: there is no such file" for source in missing]
    return wrong


def prometheus_config(file: Path) -> list[str]:
    """Check a configuration with promtool. Debian's knows no Kubernetes and no EC2; it skips their targets."""
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    done = _tool("promtool", ["check", "config", str(file)])
    strange = set(re.findall(r"field (\w+_sd_configs) not found", done.stderr))
    with tempfile.TemporaryDirectory() as folder:
        for scraped in config["scrape_configs"]:
            for name in strange & scraped.keys():
                del scraped[name]
                scraped["static_configs"] = [{"targets": ["127.0.0.1:1"]}]
            # A Ray that has ended leaves a link to its list of targets, which leads nowhere.
            for listed in scraped.get("file_sd_configs", ()):
                listed["files"] = [f"{folder}/{Path(each).name}" for each in listed["files"]]
        for rules in config.get("rule_files", ()):
            shutil.copy(file.parent / rules, folder)
        Path(folder, "prometheus.yml").write_text(yaml.safe_dump(config))
        return _said(_tool("promtool", ["check", "config", f"{folder}/prometheus.yml"]))


def rules(file: Path) -> list[str]:
    """Check alert rules: each expression parses and asks for metrics that exist, and each rule says what to do."""
    wrong: list[str] = []
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            wrong += [f"{rule.get('alert')}: {each}" for each in expression(str(rule.get("expr")))]
            if not {"summary", "what_to_do"} <= rule.get("annotations", {}).keys():
                wrong.append(f"{rule.get('alert')}: it lacks summary or what_to_do")
    return wrong


def rules_by_promtool(file: Path) -> list[str]:
    """Check alert rules with promtool, and run the tests beside them."""
    tests = file.with_name(f"{file.stem}_test.yml")
    wrong = _said(_tool("promtool", ["check", "rules", str(file)]))
    return wrong + (_said(_tool("promtool", ["test", "rules", str(tests)])) if tests.exists() else [])


def dashboard(file: Path) -> list[str]:
    """Check a Grafana dashboard: each panel asks for something, and all that it asks for parses and exists."""
    try:
        board = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        return [str(error)]
    wrong = [f"it lacks {name}" for name in ("uid", "title", "schemaVersion", "panels") if name not in board]
    panels = board.get("panels", [])
    numbers = [panel.get("id") for panel in panels]
    wrong += [f"panel id {number} is there twice" for number in {each for each in numbers if numbers.count(each) > 1}]
    known = {f"${{{each['name']}}}" for each in board.get("templating", {}).get("list", ())}
    for panel in panels:
        title, targets = panel.get("title", "?"), panel.get("targets", [])
        if panel.get("type") != "row" and not targets:
            wrong.append(f"{title}: asks for nothing")
        for target in targets:
            wrong += [f"{title}: {each}" for each in expression(target.get("expr", ""))]
            if target.get("datasource", {}).get("uid") not in known:
                wrong.append(f"{title}: its datasource is not that of the dashboard's variable")
    return wrong


def expression(text: str) -> list[str]:
    """Check a PromQL expression, which may contain Grafana's own variables."""
    import promql_parser

    try:
        promql_parser.parse(text.replace("$__rate_interval", "5m").replace("$__range", "1h"))
    except ValueError as error:
        return [f"{text!r}: {' '.join(str(error).split())}"]
    names = set(re.findall(r"\b((?:ray_|mgc_)\w+)", re.sub(r'"[^"]*"', "", text)))
    return [f"nothing exports {name}" for name in sorted(names - own_metrics() - ray_metrics())]


@cache
def own_metrics() -> frozenset[str]:
    """Return the names of our metrics as Prometheus sees them.

    Those of stages are read from the calls in the code that make the counters; jobs publish the rest.
    """
    from pipelines.command.metrics import METRICS

    names = set(METRICS)
    for file in (path for room in ("cluster", "pipelines", "tune") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args):
                continue
            kind = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if kind in ("EndingCounter", "Gauge", "Histogram") and isinstance(name, str) and name.startswith("mgc_"):
                endings = {"EndingCounter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}[
                    kind
                ]
                names |= {f"ray_{name}{ending}" for ending in endings}
    return frozenset(names)


@cache
def ray_metrics() -> frozenset[str]:
    """Return the names that Ray's own dashboards ask for."""
    from cluster.session import ray_internals

    text = "\n".join(file.read_text(encoding="utf-8") for file in ray_internals.dashboard_panels())
    return frozenset(re.findall(r"\b(ray_\w+)", text))


def schedule(text: str) -> list[str]:
    """Check the five fields of time of cron: some day they must come."""
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(text, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        return [f"schedule {text!r}: {error}"]
    return []


def crontab(file: Path) -> list[str]:
    """Check a file for /etc/cron.d: settings, and lines with schedule, user and command."""
    wrong: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#") or re.match(r"^[A-Z_]+=\S*$", line):
            continue
        fields = line.split(None, 6)
        if len(fields) < 7:
            wrong.append(f"line {number}: five fields of time, a user and a command are needed")
            continue
        wrong += [f"line {number}: {each}" for each in schedule(" ".join(fields[:5]))]
        if "%" in fields[6].replace("\\%", ""):
            wrong.append(f"line {number}: cron takes % for a line break")
        if not re.fullmatch(r"[a-z_][a-z0-9_-]*", fields[5]):
            wrong.append(f"line {number}: {fields[5]!r} is no user")
        wrong += [f"line {number}: {each}" for each in command_line(fields[6].rpartition(" && ")[2])]
    if not file.read_text(encoding="utf-8").endswith("\n"):
        wrong.append("the last line has no line break: cron would not read it")
    return wrong


def systemd(folder: Path) -> list[str]:
    """Check units with systemd itself, and their commands. It looks for their programs in this checkout."""
    units = sorted([*folder.glob("*.service"), *folder.glob("*.timer")])
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as copies:
        for unit in units:
            text = unit.read_text(encoding="utf-8")
            for command in re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE):
                wrong += [f"{unit.name}: {each}" for each in command_line(command)]
            text = text.replace("/opt/mgc/src", str(ROOT)).replace("/opt/mgc/bin", str(Path(sys.executable).parent))
            Path(copies, unit.name).write_text(text)
        done = _tool("systemd-analyze", ["verify", *(str(Path(copies, unit.name)) for unit in units)])
    lines = [line.replace(f"{copies}/", "") for line in done.stderr.splitlines()]
    return wrong + [line for line in lines if any(unit.name in line for unit in units)]


def shell(file: Path) -> list[str]:
    """Check a shell script: it parses, and its commands of mgc's are right."""
    done = _tool("bash", ["-n", str(file)])
    wrong = _said(done)
    for line in re.findall(r"^(?:exec )?(mgc [^|&]+)", file.read_text(encoding="utf-8"), re.MULTILINE):
        # Arrays hold what the caller gives, and the time is known only when the script runs.
        words = re.sub(r'\d?>&-|\d?>$|"\$\{\w+\[@\]\}"', "", line).replace('"$until"', "06:00")
        wrong += command_line(words)
    return wrong


def _tool(program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program.

    Raises:
        Skip: the program is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise Skip(f"{Path(program).name} is not installed")
    return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)


def _said(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [] if done.returncode == 0 else [" ".join((done.stdout + done.stderr).split())[:600]]
