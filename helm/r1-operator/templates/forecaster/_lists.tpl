{{/* The forecaster environment, mounts and volumes, merged with those of the site. Helpers take the root. */}}

{{- define "r1.forecasterEnv" -}}
{{ include "r1.commonEnv" . }}
- {name: R1_FORECASTER_PROMETHEUS_CLIENT, value: {{ include "r1.prometheusClient" . | quote }}}
- {name: R1_FORECASTER_LOG_LEVEL, value: {{ .Values.forecaster.logLevel }}}
# 0.5 MB per series, so that a restarted container does not retrain for hours.
- {name: R1_FORECASTER_MODEL_STORE, value: /tmp/r1-models}
{{- if gt (int .Values.forecaster.shards) 1 }}
- {name: R1_FORECASTER_SHARD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: R1_FORECASTER_SHARDS, value: /etc/r1/shards/shards.json}
{{- end }}
{{- if .Values.forecaster.keda.enabled }}
- {name: R1_FORECASTER_KEDA_PORT, value: "8083"}
{{- end }}
{{- if .Values.forecaster.externalMetrics.enabled }}
- {name: R1_FORECASTER_EXTERNAL_METRICS_PORT, value: "8443"}
- {name: R1_FORECASTER_EXTERNAL_METRICS_TLS, value: /etc/r1/external-metrics}
- {name: R1_FORECASTER_PUBLISHED, value: /etc/r1/published/published.json}
{{- end }}
{{- end -}}

{{- define "r1.forecasterVolumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if gt (int .Values.forecaster.shards) 1 }}
- {name: shards, mountPath: /etc/r1/shards, readOnly: true}
{{- end }}
{{- if .Values.forecaster.externalMetrics.enabled }}
# Folders, because subPath mounts are not updated while a pod runs.
- {name: external-metrics, mountPath: /etc/r1/external-metrics, readOnly: true}
- {name: published, mountPath: /etc/r1/published, readOnly: true}
{{- end }}
{{- with include "r1.prometheusMount" . }}
- {{ . }}
{{- end }}
{{- end -}}

{{- define "r1.forecasterVolumes" -}}
{{- $it := dict "root" . "component" "forecaster" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if gt (int .Values.forecaster.shards) 1 }}
- name: shards
  configMap: {name: {{ include "r1.name" $it }}-shards}
{{- end }}
{{- if .Values.forecaster.externalMetrics.enabled }}
- name: external-metrics
  secret:
    secretName: {{ .Values.forecaster.externalMetrics.tlsSecret | default (printf "%s-tls" (include "r1.name" $it)) | quote }}
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
- name: published
  configMap: {name: {{ include "r1.name" $it }}-published}
{{- end }}
{{- with include "r1.prometheusVolume" . }}
- {{ . }}
{{- end }}
{{- end -}}
