"""The configuration files of a node's programs: pure text from settings.

Each comment names what goes wrong without the line. YAML is written as JSON, its subset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from r1_cluster.settings import CONTAINERD_SOCKET, PROMETHEUS_PORT, ClusterSettings

PAUSE_IMAGE = "localhost/pause:1"
CNI_PLUGINS = "/usr/lib/cni"
KWOK_NODE_PREFIX = "kwok-"
POD_TARGETS = "pod-targets.json"


def render_all(settings: ClusterSettings) -> dict[str, str]:
    """Return the text of each file, keyed by its path under the state folder."""
    return {
        "containerd.toml": render_containerd(settings),
        "cni/10-r1.conflist": _json(cni_network(settings)),
        "kubelet.yaml": _json(kubelet(settings)),
        "kube-proxy.yaml": _json(kube_proxy(settings)),
        "kube-scheduler.yaml": _json(kube_scheduler(settings)),
        "Corefile": render_corefile(settings),
        "prometheus.yaml": _json(prometheus(settings)),
        # Without search domains and servers of the host: pods ask CoreDNS alone.
        "resolv.conf": f"nameserver {settings.addresses.node}\n",
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


def render_containerd(settings: ClusterSettings) -> str:
    """containerd's TOML: a private root, state and socket, cgroupfs, our pause image.

    `restrict_oom_score_adj`: where root lacks CAP_SYS_RESOURCE each sandbox fails without it.
    """
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{settings.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def cni_network(settings: ClusterSettings) -> dict[str, Any]:
    """Point-to-point links, all routed: no bridge, so Services work without br_netfilter."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": settings.addresses.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "r1", "plugins": [plugin]}


def kubelet(settings: ClusterSettings) -> dict[str, Any]:
    """KubeletConfiguration for cgroup v1 or v2, with eviction and image collection kept away."""
    certs = settings.certs
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": settings.addresses.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{certs}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{certs}/kubelet.crt",
        "tlsPrivateKeyFile": f"{certs}/kubelet.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{settings.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "resolvConf": f"{settings.folder}/resolv.conf",
        "clusterDNS": [settings.addresses.node],
        "clusterDomain": "cluster.local",
        # A full disk must not cost images: they are loaded and cannot be pulled again, and
        # without the pause image no pod starts. 0 % switches a signal off.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "makeIPTablesUtilChains": False,
        "maxPods": 250,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "readOnlyPort": 0,
    }


def kube_proxy(settings: ClusterSettings) -> dict[str, Any]:
    """KubeProxyConfiguration: iptables, quick to follow a change of endpoints.

    The conntrack limits are zero (leave alone): only the first network namespace may write them.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": settings.addresses.pods,
        "hostnameOverride": settings.node,
        "clientConnection": {"kubeconfig": f"{settings.folder}/kube-proxy.kubeconfig"},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "200ms", "localhostNodePorts": False},
        "oomScoreAdj": 0,
    }


def kube_scheduler(settings: ClusterSettings) -> dict[str, Any]:
    """KubeSchedulerConfiguration: retries what does not fit after 2 s, not 10."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
        "clientConnection": {
            "kubeconfig": f"{settings.folder}/kube-scheduler.kubeconfig",
            "qps": 300,
            "burst": 600,
        },
    }


def render_corefile(settings: ClusterSettings) -> str:
    """CoreDNS as a process of the node: Services and pods; every other name does not exist."""
    node = settings.addresses.node
    return f"""\
cluster.local in-addr.arpa ip6.arpa {{
    bind {node}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {settings.folder}/coredns.kubeconfig
        pods insecure
        ttl 2
    }}
    cache 2
}}
. {{
    bind {node}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def prometheus(settings: ClusterSettings) -> dict[str, Any]:
    """Prometheus' configuration: the pods that pod_targets finds, and Prometheus itself.

    The out-of-order window lets a replayed history be written next to the present.
    """
    seconds = f"{settings.scrape_seconds * 1000:.0f}ms"
    own = f"{settings.addresses.node}:{PROMETHEUS_PORT}"
    return {
        "global": {"scrape_interval": seconds, "scrape_timeout": seconds},
        "storage": {"tsdb": {"out_of_order_time_window": "60d"}},
        "scrape_configs": [
            {
                "job_name": "pods",
                "file_sd_configs": [
                    {"files": [f"{settings.folder}/{POD_TARGETS}"], "refresh_interval": "5s"}
                ],
            },
            {"job_name": "prometheus", "static_configs": [{"targets": [own]}]},
        ],
    }
