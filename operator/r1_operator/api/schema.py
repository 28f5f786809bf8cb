"""CustomResourceDefinition of R1Inference, generated from the types.

A test compares `crds/deepseek.ai_r1inferences.yaml` with the output of this module.
Every string, list and number has a bound: users get an early error, and the API server
can estimate the cost of the CEL rules (it rejects the CRD otherwise).
"""

from collections.abc import Mapping
from dataclasses import MISSING
from enum import Enum
from typing import Any, get_args, get_origin

import yaml

from r1_common.kube.quantity import Quantity
from r1_operator.api import names
from r1_operator.api.fields.declare import (
    Doc,
    Member,
    Rule,
    default_sentence,
    description,
    members,
    rules,
    to_json,
)
from r1_operator.api.status import STATUS
from r1_operator.api.v1 import NAME_RULE, Spec

Schema = dict[str, Any]

NAME_CEL = "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z][-a-z0-9]*$')"


def crd() -> Schema:
    """The CRD as an object ready to apply."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
            },
            "versions": [_version()],
        },
    }


def crd_yaml() -> str:
    """The CRD as the file in `crds/`."""
    return as_file(crd())


def as_file(definition: Schema) -> str:
    """Serialize a CRD as its file in `crds/`."""
    text = yaml.safe_dump(definition, sort_keys=False, width=100, allow_unicode=True)
    return (
        "# Generated from r1_operator.api by `make crds`; change the types, not this file.\n" + text
    )


def _version() -> Schema:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            column("Desired", "integer", ".status.desiredReplicas"),
            column("Available", "integer", ".status.availableReplicas"),
            column("Mode", "string", ".status.mode"),
            column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
            column("Age", "date", ".metadata.creationTimestamp"),
        ],
    }


def column(name: str, kind: str, path: str, priority: int = 0) -> Schema:
    """A column of `kubectl get`."""
    printed: Schema = {"name": name, "type": kind, "jsonPath": path}
    return printed | ({"priority": priority} if priority else {})


def _root() -> Schema:
    return {
        "type": "object",
        "description": "R1Inference serves one model under one name and scales its replicas with the "
        "load.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "spec is the desired state."} | schema_of(Spec),
            "status": STATUS,
        },
        "x-kubernetes-validations": [{"rule": NAME_CEL, "message": f"metadata.name: {NAME_RULE}"}],
    }


def schema_of(cls: type) -> Schema:
    """The structural schema of one declared type."""
    declared = members(cls)
    schema: Schema = {"type": "object"}
    required = [member.json for member in declared if member.required]
    if required:
        schema["required"] = required
    schema["properties"] = {member.json: _property(member) for member in declared}
    validations = [_validation(rule) for rule in rules(cls)]
    if validations:
        schema["x-kubernetes-validations"] = validations
    return schema


def _validation(rule: Rule) -> Schema:
    validation = {"rule": rule.cel, "message": rule.message}
    return validation | ({"fieldPath": f".{rule.field}"} if rule.field else {})


def _property(member: Member) -> Schema:
    schema: Schema = {"description": description(member) + default_sentence(member)}
    default = _default(member)
    if default is not MISSING:
        schema["default"] = default
    return schema | _value(member.type, member.doc)


def _default(member: Member) -> Any:
    """The default in the schema; MISSING for required, optional and empty fields."""
    if member.required or member.default is None:
        return MISSING
    # Complete down to the leaves: the API server checks a default against the rules unchanged.
    default = without_empty(to_json(member.default))
    return MISSING if default in ({}, []) else default


def without_empty(value: Any) -> Any:
    """The value without empty lists and maps, which mean the same as absent."""
    if not isinstance(value, Mapping):
        return value
    cleaned = {key: without_empty(item) for key, item in value.items()}
    return {key: item for key, item in cleaned.items() if item not in ({}, [])}


def _value(kind: Any, doc: Doc) -> Schema:
    origin = get_origin(kind)
    if origin is tuple:
        return _list(get_args(kind)[0], doc)
    if origin is not None and issubclass(origin, Mapping):
        return _map(get_args(kind)[1], doc)
    if kind is int:
        wide = doc.maximum is None or doc.maximum >= 2**31
        bounds = {"minimum": doc.minimum, "maximum": doc.maximum}
        return {"type": "integer", "format": "int64" if wide else "int32"} | _set(bounds)
    if kind is str:
        return {"type": "string"} | _set(
            {"minLength": doc.min_length, "maxLength": doc.max_length, "pattern": doc.pattern}
        )
    if kind is Quantity:
        return _quantity(doc)
    if issubclass(kind, Enum):
        values = [item.value for item in kind]
        return {"type": "string", "maxLength": max(map(len, values)), "enum": values}
    return schema_of(kind)


def _list(kind: Any, doc: Doc) -> Schema:
    bounds = {"minItems": doc.min_items, "maxItems": doc.max_items}
    schema: Schema = {"type": "array"} | _set(bounds)
    if doc.keys:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(doc.keys)}
    else:
        schema["x-kubernetes-list-type"] = "set" if doc.unique else "atomic"
    return schema | {"items": _value(kind, doc.of_items())}


def _map(kind: Any, doc: Doc) -> Schema:
    schema: Schema = {"type": "object", "maxProperties": doc.max_items}
    if kind is Any:
        return schema | {"x-kubernetes-preserve-unknown-fields": True}
    return schema | {"additionalProperties": _value(kind, doc.of_items())}


def _quantity(doc: Doc) -> Schema:
    below, complaint = (
        ("isGreaterThan(quantity('0'))", "must be greater than zero")
        if doc.positive
        else ("compareTo(quantity('0')) >= 0", "must not be negative")
    )
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "maxLength": doc.max_length,
        "x-kubernetes-validations": [
            {
                # Require a digit: the library parses a lone suffix such as "E" as zero.
                "rule": "isQuantity(string(self)) && string(self).matches('[0-9]')",
                "message": "must be a quantity such as 1000, '0.5', 500m or 8Gi",
            },
            {
                "rule": f"!isQuantity(string(self)) || quantity(string(self)).{below}",
                "message": complaint,
            },
        ],
    }


def _set(values: Mapping[str, Any]) -> Schema:
    return {key: value for key, value in values.items() if value is not None}
