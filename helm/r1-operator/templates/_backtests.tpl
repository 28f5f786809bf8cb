{{/*
Pod template (JSON) of the site for the Jobs of R1Backtests; the operator merges it over its own template.
*/}}
{{- define "r1.backtestTemplate" -}}
{{- $container := dict "name" "backtest" "imagePullPolicy" .Values.backtest.image.pullPolicy "resources" .Values.backtest.resources }}
{{- with .Values.backtest.extraEnv }}{{ $_ := set $container "env" (include "r1.listByKey" (dict "key" "name" "site" .) | fromYamlArray) }}{{ end }}
{{- $own := "" }}{{ with include "r1.prometheusMount" . }}{{ $own = printf "- %s" . }}{{ end }}
{{- if or $own .Values.backtest.extraVolumeMounts }}{{ $_ := set $container "volumeMounts" (include "r1.listByKey" (dict "key" "mountPath" "own" $own "site" .Values.backtest.extraVolumeMounts) | fromYamlArray) }}{{ end }}
{{- $spec := dict "containers" (list $container) }}
{{- range $field := list "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with index $.Values.backtest $field }}{{ $_ := set $spec $field . }}{{ end }}
{{- end }}
{{- $own = "" }}{{ with include "r1.prometheusVolume" . }}{{ $own = printf "- %s" . }}{{ end }}
{{- if or $own .Values.backtest.extraVolumes }}{{ $_ := set $spec "volumes" (include "r1.listByKey" (dict "key" "name" "own" $own "site" .Values.backtest.extraVolumes) | fromYamlArray) }}{{ end }}
{{- with .Values.imagePullSecrets }}{{ $_ := set $spec "imagePullSecrets" (include "r1.listByKey" (dict "key" "name" "site" .) | fromYamlArray) }}{{ end }}
{{- $template := dict "spec" $spec }}
{{- with .Values.backtest.podAnnotations }}{{ $_ := set $template "metadata" (dict "annotations" .) }}{{ end }}
{{- toJson $template }}
{{- end -}}
