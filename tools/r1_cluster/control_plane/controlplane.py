"""etcd and a kube-apiserver alone, for tests of the API, up in seconds.

There is no node and no root: objects are stored, validated, defaulted and watched, and nothing
acts on them unless a test starts controllers. Ports are free ports of the loopback interface.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_cluster.control_plane import certificates
from r1_cluster.control_plane.apiserver_probe import is_ready
from r1_cluster.control_plane.kubeconfigs import write_kubeconfig
from r1_cluster.errors import NotReady
from r1_cluster.programs.binaries import ensure_binaries
from r1_cluster.waiting import wait_until

LOOPBACK = "127.0.0.1"
START_SECONDS = 120.0  # a cold disk on a busy machine; 4 s is usual


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running etcd and kube-apiserver."""

    folder: Path
    kubeconfig: Path
    server: str
    audit_log: Path
    """One JSON line per request, metadata only."""

    @property
    def certs(self) -> Path:
        """The folder of its keys and certificates."""
        return self.folder / "certs"


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports that are free on the loopback interface now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


def apiserver_arguments(
    certs: Path, etcd: str, address: str, port: int, services: str, audit: Path | None
) -> list[str]:
    """Return the flags of kube-apiserver that both kinds of cluster share.

    `certs` holds ca, apiserver, service-account and front-proxy files by those names; `etcd` is
    a URL; `services` the CIDR of ClusterIPs.
    """
    flags = [
        f"--etcd-servers={etcd}",
        f"--bind-address={address}",
        f"--advertise-address={address}",
        f"--secure-port={port}",
        f"--service-cluster-ip-range={services}",
        f"--client-ca-file={certs}/ca.crt",
        f"--tls-cert-file={certs}/apiserver.crt",
        f"--tls-private-key-file={certs}/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certs}/service-account.key",
        f"--service-account-signing-key-file={certs}/service-account.key",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        # Ten thousand objects at a time come from one client in the scale tests.
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        "--profiling=false",
        # What an aggregated API (external.metrics.k8s.io for an HPA) needs to trust its caller.
        f"--requestheader-client-ca-file={certs}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certs}/front-proxy-client.crt",
        f"--proxy-client-key-file={certs}/front-proxy-client.key",
    ]
    if audit is not None:
        flags += [f"--audit-policy-file={certs}/audit.yaml", f"--audit-log-path={audit}"]
    return flags


def etcd_arguments(data: Path, client: str, peer: str) -> list[str]:
    """Return etcd's flags; it never syncs its disk, which only a throw-away cluster may do."""
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def write_certificates(certs: Path, address: str, service_address: str) -> None:
    """Write the certificates of a kube-apiserver at `address`; `service_address` is its ClusterIP."""
    certs.mkdir(parents=True, exist_ok=True)
    authority = certificates.create_authority(certs, "ca")
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    certificates.issue(
        certs,
        "apiserver",
        authority,
        user="kube-apiserver",
        alternative_names=(
            *(f"DNS:{name}" for name in names),
            *(f"IP:{ip}" for ip in (LOOPBACK, address, service_address)),
        ),
    )
    certificates.issue(certs, "admin", authority, user="r1-admin", groups=("system:masters",))
    front = certificates.create_authority(certs, "front-proxy-ca")
    certificates.issue(certs, "front-proxy-client", front, user="front-proxy-client")
    certificates.create_private_key(certs / "service-account.key")
    (certs / "audit.yaml").write_text(AUDIT_POLICY)


@contextlib.contextmanager
def control_plane(extra_arguments: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Run etcd and kube-apiserver until the block ends, then remove everything.

    `extra_arguments` are appended to kube-apiserver's flags. Raises NotReady with the end of the
    log when one of them does not start.
    """
    programs = ensure_binaries(("etcd", "kube-apiserver", "kubectl"))
    folder = Path(tempfile.mkdtemp(prefix="r1-apiserver-"))
    certs = folder / "certs"
    client_port, peer_port, api_port = free_ports(3)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        write_certificates(certs, LOOPBACK, "10.96.0.1")
        server = f"https://{LOOPBACK}:{api_port}"
        kubeconfig = write_kubeconfig(
            folder / "kubeconfig",
            server,
            certs / "ca.crt",
            certificates.KeyPair(certs / "admin.crt", certs / "admin.key"),
            name="r1-apiserver",
        )
        etcd = f"http://{LOOPBACK}:{client_port}"
        peer = f"http://{LOOPBACK}:{peer_port}"
        audit = folder / "audit.jsonl"
        api = apiserver_arguments(certs, etcd, LOOPBACK, api_port, "10.96.0.0/16", audit)
        # Nothing runs the controller that makes service accounts, so nothing may demand them.
        api += ["--disable-admission-plugins=ServiceAccount", *extra_arguments]
        commands = {
            "etcd": [str(programs["etcd"]), *etcd_arguments(folder / "etcd", etcd, peer)],
            "kube-apiserver": [str(programs["kube-apiserver"]), *api],
        }
        for name, argv in commands.items():
            processes.append(_start(argv, folder / f"{name}.log"))

        def settled() -> bool:
            for process in processes:
                if process.poll() is not None:
                    raise NotReady(_death(folder))
            return is_ready(kubeconfig)

        wait_until(settled, lambda: _death(folder), START_SECONDS)
        yield ControlPlane(folder, kubeconfig, server, audit)
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def controller_manager_arguments(
    plane: ControlPlane, port: int, controllers: Sequence[str]
) -> list[str]:
    """Return the flags of a kube-controller-manager that runs the named controllers alone.

    Each acts as its own service account, so that its rights are those it has in any cluster.
    """
    return [
        f"--kubeconfig={plane.kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--leader-elect=false",
        f"--controllers={','.join(controllers)}",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={plane.certs}/service-account.key",
    ]


@contextlib.contextmanager
def controllers(
    plane: ControlPlane, names: Sequence[str], extra_arguments: Sequence[str] = ()
) -> Iterator[Path]:
    """Run the named controllers of the real kube-controller-manager; yields the log's path.

    `extra_arguments` are appended to its flags.
    """
    program = ensure_binaries(("kube-controller-manager",))["kube-controller-manager"]
    (port,) = free_ports(1)
    log = plane.folder / "kube-controller-manager.log"
    flags = controller_manager_arguments(plane, port, names)
    process = _start([str(program), *flags, *extra_arguments], log)
    try:
        yield log
    finally:
        process.kill()
        process.wait()


def _start(argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    # Dies with the tests that started it, even when they are killed; Ctrl-C (the process group)
    # stops the tests first, which then stop it in order.
    with log.open("wb") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            process_group=0,
        )


def _death(folder: Path) -> str:
    def tail(name: str) -> str:
        log = folder / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        return f"{name}: " + " | ".join(lines[-4:])[-1500:]

    return (
        "The test API server did not come up; free memory or look for another process on its "
        f"ports. The ends of the logs: {tail('etcd')} || {tail('kube-apiserver')}"
    )
