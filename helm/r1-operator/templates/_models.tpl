{{/*
Pod template (JSON) of the site for model pods, with the chart's imagePullSecrets. The operator merges it over its own
pods, and the template of an R1Inference over both.
*/}}
{{- define "r1.modelPodTemplate" -}}
{{- /* Values of an older release (--reuse-values) do not have this key. */}}
{{- $template := deepCopy (get (.Values.modelPods | default dict) "template" | default dict) }}
{{- with .Values.imagePullSecrets }}
{{- $spec := get $template "spec" | default dict }}
{{- $merged := include "r1.listByKey" (dict "key" "name" "own" (toYaml .) "site" (get $spec "imagePullSecrets")) }}
{{- $_ := set $template "spec" (set $spec "imagePullSecrets" (fromYamlArray $merged)) }}
{{- end }}
{{- toJson $template }}
{{- end -}}
