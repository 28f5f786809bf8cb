{{/*
What a site sets about the pods of R1Backtests' Jobs, as a pod template in JSON: the operator makes the Jobs and merges
it over their own.
*/}}
{{- define "r1.backtestTemplate" -}}
{{- $container := dict "name" "backtest" "imagePullPolicy" .Values.backtest.image.pullPolicy "resources" .Values.backtest.resources }}
{{- with .Values.backtest.extraEnv }}{{ $_ := set $container "env" . }}{{ end }}
{{- $mounts := .Values.backtest.extraVolumeMounts }}
{{- with include "r1.prometheusMount" . }}{{ $mounts = prepend $mounts (fromJson .) }}{{ end }}
{{- with $mounts }}{{ $_ := set $container "volumeMounts" . }}{{ end }}
{{- $spec := dict "containers" (list $container) }}
{{- range $field := list "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with index $.Values.backtest $field }}{{ $_ := set $spec $field . }}{{ end }}
{{- end }}
{{- $volumes := .Values.backtest.extraVolumes }}
{{- with include "r1.prometheusVolume" . }}{{ $volumes = prepend $volumes (fromJson .) }}{{ end }}
{{- with $volumes }}{{ $_ := set $spec "volumes" . }}{{ end }}
{{- with .Values.imagePullSecrets }}{{ $_ := set $spec "imagePullSecrets" . }}{{ end }}
{{- $template := dict "spec" $spec }}
{{- with .Values.backtest.podAnnotations }}{{ $_ := set $template "metadata" (dict "annotations" .) }}{{ end }}
{{- toJson $template }}
{{- end -}}
