{{/*
Prometheus client configuration of operator, forecaster and the Jobs of R1Backtests: JSON without secrets, and a Secret
with the files that it names.
*/}}

{{- define "r1.prometheusClient" -}}
{{- /* Values of an older release (--reuse-values) do not have this key. */}}
{{- $auth := .Values.prometheus.auth | default dict }}
{{- $client := dict "scrapeInterval" .Values.serviceMonitor.interval }}
{{- with .Values.prometheus.matchers }}{{ $_ := set $client "matchers" . }}{{ end }}
{{- with .Values.prometheus.headers }}{{ $_ := set $client "headers" . }}{{ end }}
{{- range $field := list "bearerToken" "username" "password" "ca" "cert" "key" }}
{{- with index $auth (printf "%sKey" $field) }}{{ $_ := set $client (printf "%sFile" $field) (printf "/etc/r1/prometheus/%s" .) }}{{ end }}
{{- end }}
{{- $headers := dict }}
{{- range $name, $key := $auth.headerKeys }}{{ $_ := set $headers $name (printf "/etc/r1/prometheus/%s" $key) }}{{ end }}
{{- with $headers }}{{ $_ := set $client "headerFiles" . }}{{ end }}
{{- toJson $client }}
{{- end -}}

{{/* The volume as JSON; empty without a Secret. */}}
{{- define "r1.prometheusVolume" -}}
{{- with .Values.prometheus.auth }}
{{- $keys := list }}
{{- range $key := list .bearerTokenKey .usernameKey .passwordKey .caKey .certKey .keyKey }}{{ with $key }}{{ $keys = append $keys . }}{{ end }}{{ end }}
{{- range $key := .headerKeys }}{{ with $key }}{{ $keys = append $keys . }}{{ end }}{{ end }}
{{- $keys = uniq $keys }}
{{- if and $keys (not .secretName) }}
{{- fail "prometheus.auth.secretName is empty: set it to the Secret with the keys of prometheus.auth" }}
{{- end }}
{{- if and .secretName (not $keys) }}
{{- fail "prometheus.auth names no key: set a key of the Secret, such as bearerTokenKey" }}
{{- end }}
{{- range $pair := list (list "usernameKey" "passwordKey") (list "certKey" "keyKey") }}
{{- if ne (empty (index $.Values.prometheus.auth (first $pair))) (empty (index $.Values.prometheus.auth (last $pair))) }}
{{- fail (printf "prometheus.auth: set both %s and %s, or neither" (first $pair) (last $pair)) }}
{{- end }}
{{- end }}
{{- if .secretName }}
{{- $items := list }}
{{- range $key := $keys }}{{ $items = append $items (dict "key" $key "path" $key) }}{{ end }}
{{- toJson (dict "name" "prometheus-auth" "secret" (dict "secretName" .secretName "defaultMode" 288 "items" $items)) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "r1.prometheusMount" -}}
{{- if (.Values.prometheus.auth | default dict).secretName }}
{{- toJson (dict "name" "prometheus-auth" "mountPath" "/etc/r1/prometheus" "readOnly" true) }}
{{- end }}
{{- end -}}
