"""The errors of this package.

ClusterError          any error of the package; one sentence with the action
+-- MissingTool       a program or a Debian package is absent and could not be installed
+-- BuildFailed       a pinned program or an image did not build
+-- NotReady          a process did not start in time, or ended
"""

from __future__ import annotations


class ClusterError(Exception):
    """An error that a user can act on; the message names the action."""


class MissingTool(ClusterError):
    """A required program is not on this machine."""


class BuildFailed(ClusterError):
    """A build from pinned sources failed; the message has the end of its output."""


class NotReady(ClusterError):
    """A process did not start in time, or ended; the message names its log."""
