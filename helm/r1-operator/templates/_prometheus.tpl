{{/*
How operator, forecaster and the Jobs of R1Backtests reach Prometheus: one configuration without secrets, as JSON, and
one Secret with the files that it names.
*/}}

{{- define "r1.prometheusClient" -}}
{{- /* Values of a release from before there was one (--reuse-values) have none. */}}
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

{{/* The volume as JSON; nothing without a Secret. */}}
{{- define "r1.prometheusVolume" -}}
{{- with .Values.prometheus.auth }}
{{- $keys := list }}
{{- range $key := list .bearerTokenKey .usernameKey .passwordKey .caKey .certKey .keyKey }}{{ with $key }}{{ $keys = append $keys . }}{{ end }}{{ end }}
{{- range $key := .headerKeys }}{{ with $key }}{{ $keys = append $keys . }}{{ end }}{{ end }}
{{- $keys = uniq $keys }}
{{- if and $keys (not .secretName) }}
{{- fail "prometheus.auth.secretName: the keys need the name of the Secret that holds them" }}
{{- end }}
{{- if and .secretName (not $keys) }}
{{- fail "prometheus.auth: name a key of the Secret, such as bearerTokenKey" }}
{{- end }}
{{- range $pair := list (list "usernameKey" "passwordKey") (list "certKey" "keyKey") }}
{{- if ne (empty (index $.Values.prometheus.auth (first $pair))) (empty (index $.Values.prometheus.auth (last $pair))) }}
{{- fail (printf "prometheus.auth: %s and %s belong together: set both or neither" (first $pair) (last $pair)) }}
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
