{{/* Parts of NetworkPolicies. */}}

{{/* `from:` or `to:` with the peers; omitted, which allows all, when the list is empty. */}}
{{- define "r1.peers" -}}
{{- with .peers -}}
{{ $.direction }}:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "r1.egressToDns" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{- define "r1.egressToApiServer" -}}
- ports:
    {{- range uniq (.apiServerPorts | default list) }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with include "r1.peers" (dict "direction" "to" "peers" .apiServerTo) }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "r1.egressToPrometheus" -}}
- ports:
    {{- range uniq (.prometheusPorts | default list) }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with include "r1.peers" (dict "direction" "to" "peers" .prometheusTo) }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
