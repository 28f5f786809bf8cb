"""CustomResourceDefinition of R1Backtest, generated from its types."""

from r1_operator.api import names
from r1_operator.api.backtest.spec import IMMUTABLE_RULE, NAME_RULE, BacktestSpec
from r1_operator.api.backtest.status import BACKTEST_STATUS
from r1_operator.api.schema import NAME_CEL, Schema, as_file, column, schema_of


def backtest_crd() -> Schema:
    """The CRD as an object ready to apply."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.BACKTEST_PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.BACKTEST_KIND,
                "listKind": f"{names.BACKTEST_KIND}List",
                "plural": names.BACKTEST_PLURAL,
                "singular": names.BACKTEST_SINGULAR,
                "shortNames": [names.BACKTEST_SHORT_NAME],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        column("Phase", "string", ".status.phase"),
                        column("Finding", "string", ".status.verdict.finding"),
                        column("Inference", "string", ".spec.inferenceName"),
                        column(
                            "Reason",
                            "string",
                            '.status.conditions[?(@.type=="Complete")].reason',
                            1,
                        ),
                        column("Age", "date", ".metadata.creationTimestamp"),
                    ],
                }
            ],
        },
    }


def backtest_crd_yaml() -> str:
    """The CRD as the file in `crds/`."""
    return as_file(backtest_crd())


def _root() -> Schema:
    spec: Schema = {"description": "spec is the desired backtest. It is immutable."}
    spec |= schema_of(BacktestSpec)
    spec["x-kubernetes-validations"] = [{"rule": "self == oldSelf", "message": IMMUTABLE_RULE}]
    return {
        "type": "object",
        "description": "R1Backtest tests the scaling policy of an R1Inference on its recorded load, once.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": BACKTEST_STATUS,
        },
        "x-kubernetes-validations": [{"rule": NAME_CEL, "message": f"metadata.name: {NAME_RULE}"}],
    }
