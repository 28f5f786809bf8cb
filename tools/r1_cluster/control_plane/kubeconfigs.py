"""Kubeconfig files with everything inlined, so that one can be copied anywhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from r1_cluster.control_plane.certificates import KeyPair


def render_kubeconfig(server: str, authority: Path, client: KeyPair, name: str = "r1") -> str:
    """Return a kubeconfig (JSON, which is YAML) for `server`, an https:// address."""

    def inline(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": inline(authority)},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": inline(client.certificate),
                    "client-key-data": inline(client.key),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    return json.dumps(document, indent=1)


def write_kubeconfig(path: Path, server: str, authority: Path, client: KeyPair, name: str) -> Path:
    """Write the file for its owner only and return its path."""
    path.touch(mode=0o600)
    path.write_text(render_kubeconfig(server, authority, client, name))
    return path
