{{/*
The site's pod template of model pods, in JSON: the operator merges it over its own pods, and an R1Inference's template
over both. The chart's imagePullSecrets are part of it.
*/}}
{{- define "r1.modelPodTemplate" -}}
{{- /* Values of a release from before this one was there (--reuse-values) have none. */}}
{{- $template := deepCopy (get (.Values.modelPods | default dict) "template" | default dict) }}
{{- with .Values.imagePullSecrets }}
{{- $spec := get $template "spec" | default dict }}
{{- $merged := include "r1.listByKey" (dict "key" "name" "own" (toYaml .) "site" (get $spec "imagePullSecrets")) }}
{{- $_ := set $template "spec" (set $spec "imagePullSecrets" (fromYamlArray $merged)) }}
{{- end }}
{{- toJson $template }}
{{- end -}}
