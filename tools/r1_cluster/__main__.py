"""The command line: r1-cluster up | down | status | load-image | kubectl | helm | build-image."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from r1_cluster import cluster
from r1_cluster.errors import ClusterError
from r1_cluster.image_build import images
from r1_cluster.paths import clusters_root
from r1_cluster.programs.binaries import ensure_binaries
from r1_cluster.settings import cgroup_name, check_name, state_folder
from r1_cluster.simulated_nodes import add_kwok_nodes

DEFAULT_NAME = "r1"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 on success, 1 with a message on stderr on failure."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # argparse would read the flags of kubectl and helm as ours: they stand behind a "--".
    if arguments[:1] in (["kubectl"], ["helm"]):
        own = 3 if arguments[1:2] == ["--name"] else 1
        arguments = [*arguments[:own], "--", *arguments[own:]]
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        check_name(options.name)
        return command(options)
    except ClusterError as error:
        print(f"r1-cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="r1-cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--name", default=DEFAULT_NAME, help="name of the cluster (default: r1)")
        added.set_defaults(command=command)
        return added

    boot = add("up", _up, "boot the cluster, or find it up")
    boot.add_argument("--gpus", type=int, default=8, help="nvidia.com/gpu that the node advertises")
    boot.add_argument("--kwok", action="store_true", help="run kwok, for simulated nodes")
    boot.add_argument(
        "--kwok-nodes", type=int, default=0, metavar="N", help="add N simulated nodes"
    )
    boot.add_argument("--no-prometheus", action="store_true")
    boot.add_argument("--scrape-seconds", type=float, default=2.0, help="Prometheus' interval")
    ending = add("down", _down, "remove the cluster and everything that belongs to it")
    ending.add_argument("--all", action="store_true", help="every local cluster of this user")
    state = add(
        "status", _status, "print state and addresses of the cluster; exit 1 when it is down"
    )
    state.add_argument("--json", action="store_true")
    load = add("load-image", _load_image, "load OCI or docker archives into the node")
    load.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    for program in ("kubectl", "helm"):
        run = add(program, _passthrough(program), f"run the pinned {program} on the cluster")
        run.add_argument("arguments", nargs="*")
    build = add("build-image", _build_image, "build the project's images, and optionally load them")
    build.add_argument("parts", nargs="*", metavar="PART", help=" ".join(images.PARTS))
    build.add_argument("--all", action="store_true", help="all images")
    build.add_argument(
        "--thin",
        action="store_true",
        help=f"{', '.join(images.THIN_PARTS)}: without dependencies, which pods mount from the node's site-packages",
    )
    build.add_argument("--load", action="store_true", help="load the images into the cluster")
    return parser


def _up(options: argparse.Namespace) -> int:
    running = cluster.up(
        options.name,
        gpus=options.gpus,
        kwok=options.kwok or options.kwok_nodes > 0,
        prometheus=not options.no_prometheus,
        scrape_seconds=options.scrape_seconds,
    )
    if options.kwok_nodes:
        add_kwok_nodes(running.kubectl, options.kwok_nodes)
    print(f"export KUBECONFIG={running.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    names = [options.name]
    if options.all:
        names = sorted(folder.name for folder in clusters_root().glob("[a-z0-9]*"))
    for name in names:
        cluster.down(name)
        print(f"Cluster {name} is removed.", file=sys.stderr)
    return 0


def _status(options: argparse.Namespace) -> int:
    running = cluster.find(options.name)
    healthy = running is not None and running.is_healthy()
    report: dict[str, object] = {"name": options.name, "healthy": healthy}
    if running is None:
        report["state"] = "Down"
        if state_folder(options.name).exists():
            report["state"] = "Crashed"  # `r1-cluster down` cleans up
    else:
        report |= {
            "state": "Up" if healthy else "Unhealthy",
            "kubeconfig": str(running.kubeconfig),
            "server": running.settings.server,
            "prometheus": running.prometheus_url if running.settings.prometheus else None,
            "hostAddress": running.host_address,
            "folder": str(running.settings.folder),
            "cgroup": cgroup_name(options.name),
            "processes": running.processes(),
        }
    if options.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:12} {value}")
    return 0 if healthy else 1


def _require(name: str) -> cluster.LocalCluster:
    running = cluster.find(name)
    if running is None:
        raise ClusterError(f"Cluster {name} is down. Start it: r1-cluster up --name {name}")
    return running


def _load_image(options: argparse.Namespace) -> int:
    running = _require(options.name)
    for archive in options.archives:
        running.load_image(archive)
    return 0


def _passthrough(program: str) -> Callable[[argparse.Namespace], int]:
    def command(options: argparse.Namespace) -> int:
        kubeconfig = _require(options.name).kubeconfig
        path = ensure_binaries((program,))[program]
        environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
        sys.stdout.flush()
        os.execve(path, [program, *options.arguments], environment)  # noqa: S606

    return command


def _build_image(options: argparse.Namespace) -> int:
    parts = list(images.PARTS) if options.all else options.parts
    if not parts:
        raise ClusterError(f"build-image requires a part ({', '.join(images.PARTS)}) or --all")
    running = _require(options.name) if options.load else None
    whole = options.all and not options.thin
    for image in (
        images.build_all() if whole else (images.build(part, thin=options.thin) for part in parts)
    ):
        print(image)
        if running is not None:
            images.load(image, running)
    return 0


if __name__ == "__main__":
    sys.exit(main())
