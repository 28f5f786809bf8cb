{{/*
Common parts of every pod: the restricted Pod Security level, a read-only root with a writable /tmp, and the scheduling
of the site. Service links are disabled, because the variables of a Service named r1-gateway
(R1_GATEWAY_PORT=tcp://...) would be read as settings. Helpers take (dict "root" $ "component" "operator" "values" .Values.operator).
*/}}

{{- define "r1.podMetadata" -}}
labels:
  {{- include "r1.labels" . | nindent 2 }}
{{- with include "r1.mapByKey" (dict "own" (include "r1.scraping" .) "site" .values.podAnnotations) | fromYaml }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Omitted with ServiceMonitors, because a second scrape by annotations would duplicate every series. */}}
{{- define "r1.scraping" -}}
{{- if not .root.Values.serviceMonitor.enabled -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .metricsPort | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end -}}

{{- define "r1.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "r1.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/*
HOME: library caches need the writable /tmp. USER: an image may not define user 65532, and libraries that look up its
name would fail.
*/}}
{{- define "r1.commonEnv" -}}
- {name: HOME, value: /tmp}
- {name: USER, value: r1}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
- {name: PYTHONUNBUFFERED, value: "1"}
{{- end -}}

{{- define "r1.scheduling" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "r1.selector" . | nindent 8 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml (uniq .) | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- include "r1.listByKey" (dict "key" "name" "site" .) | nindent 2 }}
{{- end }}
{{- end -}}
