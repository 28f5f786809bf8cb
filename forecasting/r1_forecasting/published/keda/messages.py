"""Protobuf messages of KEDA's external scaler, built at import from a table of their fields.

Wire format: package ``externalscaler`` of KEDA 2.21. The code is not generated from a ``.proto``
file, because generated code registers ``externalscaler.proto`` in the default descriptor pool and
fails where the process already has KEDA's own file of that name. These classes use a pool of
their own. The tests run them against a client that protoc generates from KEDA's ``.proto`` text.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"

TEXT = FieldDescriptorProto.TYPE_STRING
FLAG = FieldDescriptorProto.TYPE_BOOL
WHOLE = FieldDescriptorProto.TYPE_INT64
REAL = FieldDescriptorProto.TYPE_DOUBLE
TEXTS = "map<string, string>"

# Message -> fields in the order of their numbers; "X" is another message, "X*" a repeated one.
FIELDS: dict[str, dict[str, int | str]] = {
    "ScaledObjectRef": {"name": TEXT, "namespace": TEXT, "scalerMetadata": TEXTS},
    "IsActiveResponse": {"result": FLAG},
    "MetricSpec": {"metricName": TEXT, "targetSize": WHOLE, "targetSizeFloat": REAL},
    "GetMetricSpecResponse": {"metricSpecs": "MetricSpec*"},
    "GetMetricsRequest": {"scaledObjectRef": "ScaledObjectRef", "metricName": TEXT},
    "MetricValue": {"metricName": TEXT, "metricValue": WHOLE, "metricValueFloat": REAL},
    "GetMetricsResponse": {"metricValues": "MetricValue*"},
}


def _describe() -> FileDescriptorProto:
    file = FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto3")
    for message, fields in FIELDS.items():
        made = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields.items(), start=1):
            field = made.field.add(name=name, number=number, json_name=name)
            field.label = FieldDescriptorProto.LABEL_OPTIONAL
            if isinstance(kind, int):
                field.type = kind
                continue
            field.type = FieldDescriptorProto.TYPE_MESSAGE
            if kind == TEXTS or kind.endswith("*"):
                field.label = FieldDescriptorProto.LABEL_REPEATED
            if kind == TEXTS:
                # A map is a repeated entry message with the option map_entry.
                entry = made.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
                entry.options.map_entry = True
                for place, part in enumerate(("key", "value"), start=1):
                    entry.field.add(
                        name=part,
                        number=place,
                        type=TEXT,
                        label=FieldDescriptorProto.LABEL_OPTIONAL,
                    )
                field.type_name = f".{PACKAGE}.{message}.{entry.name}"
            else:
                field.type_name = f".{PACKAGE}.{kind.rstrip('*')}"
    return file


_POOL = DescriptorPool()
_POOL.Add(_describe())


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ScaledObjectRef = _message("ScaledObjectRef")
IsActiveResponse = _message("IsActiveResponse")
MetricSpec = _message("MetricSpec")
GetMetricSpecResponse = _message("GetMetricSpecResponse")
GetMetricsRequest = _message("GetMetricsRequest")
MetricValue = _message("MetricValue")
GetMetricsResponse = _message("GetMetricsResponse")
