"""A real Kubernetes on one Linux machine: built from pinned sources, booted in seconds.

Everything that tests, the demo and the benchmarks need from a cluster comes from here:

- `binaries` builds the pinned Kubernetes, etcd, CoreDNS, helm and kwok once per machine;
- `controlplane` runs etcd and a kube-apiserver alone, for tests of what the API accepts;
- `cluster` boots one whole node, in namespaces of its own, and takes it away without a trace;
- `providers` chooses between a given KUBECONFIG, kind, and this local cluster;
- `images` builds the project's images with buildah or docker and `site_packages` feeds thin ones.
"""
