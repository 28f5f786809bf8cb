"""Validation of the site's pod templates for model pods and for the Jobs of R1Backtests.

An invalid template would break every resource. It therefore fails the start of the operator, and the
previous operator continues. Errors that only the API server detects become conditions of the
resources.
"""

from __future__ import annotations

import json
from typing import Any

from r1_operator.api import names
from r1_operator.api.fields.parsing import FieldError, read
from r1_operator.api.serving import PodTemplate
from r1_operator.kube.pod_schema import wrong_fields
from r1_operator.plan.backtest.job import CONTAINER
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.workload.template import merge_template
from r1_operator.settings import BadSetting, OperatorSettings, variable


def check_site_templates(settings: OperatorSettings) -> None:
    """Validate both templates; raises BadSetting, whose message names the field and the container."""
    _check("model_pod_template", settings.model_pod_template, names.CONTAINER)
    _check("backtest_template", settings.backtest_template, CONTAINER)


def _check(name: str, text: str, container: str) -> None:
    template: Any = json.loads(text)  # `OperatorSettings.checked` ensures an object
    errors: list[FieldError] = []
    read(PodTemplate, template, "template", errors, strict=True)
    wrong = [str(error).removeprefix("template.") for error in errors]
    if not wrong:
        wrong = wrong_fields(template.get("spec"), "spec")
    if not wrong:
        wrong = _unmergeable(template, container)
    if wrong:
        raise BadSetting(f"{variable(name)}: {'; '.join(wrong)}")


def _unmergeable(template: Any, container: str) -> list[str]:
    base = {"spec": {"containers": [{"name": container, "image": "any"}]}}
    try:
        pod = merge_template(base, template)["spec"]
    except Unplannable as error:
        return [error.problem.message.removeprefix("spec.template.")]
    groups = ((field, pod.get(field) or []) for field in ("containers", "initContainers"))
    return [
        f"spec.{field}[{each['name']}]: has no image, and the pod of the operator has only the "
        f"container {container}"
        for field, containers in groups
        for each in containers
        if not each.get("image")
    ]
