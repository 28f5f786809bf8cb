{{/*
How operator, forecaster and the Jobs of R1Backtests reach Prometheus: one configuration without secrets, as JSON, and
one Secret with the files that it names.
*/}}

{{- define "r1.prometheusClient" -}}
{{- $auth := .Values.prometheus.auth }}
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
{{- $keys := list .bearerTokenKey .usernameKey .passwordKey .caKey .certKey .keyKey }}
{{- range $key := .headerKeys }}{{ $keys = append $keys $key }}{{ end }}
{{- $keys = without $keys "" | uniq }}
{{- if and $keys (not .secretName) }}
{{- fail "prometheus.auth.secretName: the keys need the name of the Secret that holds them" }}
{{- end }}
{{- if and .secretName (not $keys) }}
{{- fail "prometheus.auth: name a key of the Secret, such as bearerTokenKey" }}
{{- end }}
{{- if .secretName }}
{{- $items := list }}
{{- range $key := $keys }}{{ $items = append $items (dict "key" $key "path" $key) }}{{ end }}
{{- toJson (dict "name" "prometheus-auth" "secret" (dict "secretName" .secretName "defaultMode" 288 "items" $items)) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "r1.prometheusMount" -}}
{{- if .Values.prometheus.auth.secretName }}
{{- toJson (dict "name" "prometheus-auth" "mountPath" "/etc/r1/prometheus" "readOnly" true) }}
{{- end }}
{{- end -}}
