{{/*
The site's pod template of model pods, in JSON: the operator merges it over its own pods, and an R1Inference's template
over both. The chart's imagePullSecrets are part of it.
*/}}
{{- define "r1.modelPodTemplate" -}}
{{- $template := deepCopy .Values.modelPods.template }}
{{- with .Values.imagePullSecrets }}
{{- $spec := get $template "spec" | default dict }}
{{- $merged := include "r1.listByKey" (dict "key" "name" "own" (toYaml .) "site" (get $spec "imagePullSecrets")) }}
{{- $_ := set $template "spec" (set $spec "imagePullSecrets" (fromYamlArray $merged)) }}
{{- end }}
{{- toJson $template }}
{{- end -}}
