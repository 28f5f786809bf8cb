"""The errors of this package.

ClusterError          every refusal; one sentence that says what to do
+-- MissingTool       a program or a Debian package is absent and could not be installed
+-- BuildFailed       a pinned program or an image did not build
+-- NotReady          a process did not come up in time, or died
"""

from __future__ import annotations


class ClusterError(Exception):
    """Something a person has to do something about; the message says what."""


class MissingTool(ClusterError):
    """A program is needed that is not on this machine."""


class BuildFailed(ClusterError):
    """A build from pinned sources failed; the message holds the end of its output."""


class NotReady(ClusterError):
    """A process did not come up in time, or died; the message names its log."""
