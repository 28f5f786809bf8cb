"""Asks a kube-apiserver whether it is ready, with the credentials of a kubeconfig."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path


def is_ready(kubeconfig: Path, timeout: float = 2.0) -> bool:
    """Return whether `/readyz` of the kubeconfig's current cluster says ok."""
    return fetch(kubeconfig, "/readyz", timeout) == b"ok"


def fetch(kubeconfig: Path, path: str, timeout: float = 2.0) -> bytes | None:
    """Return the body of a GET on the API server, or None if it does not answer 200.

    Reads only the kubeconfigs this package writes (inlined certificates).
    """
    document = json.loads(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    user = document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile("wb") as pem:
        pem.write(base64.b64decode(user["client-certificate-data"]))
        pem.write(base64.b64decode(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(cluster["server"] + path, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return None
