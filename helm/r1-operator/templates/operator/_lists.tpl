{{/* The operator environment, mounts and volumes, merged with those of the site. Helpers take the root. */}}

{{- define "r1.operatorEnv" -}}
{{- $it := dict "root" . "component" "operator" -}}
{{ include "r1.commonEnv" . }}
- {name: R1_OWN_NAMESPACE, value: {{ .Release.Namespace | quote }}}
- name: R1_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: R1_LEASE_NAME, value: {{ include "r1.name" $it }}}
{{- with .Values.watchNamespaces }}
- {name: R1_NAMESPACES, value: {{ join "," . | quote }}}
{{- end }}
- {name: R1_DEFAULT_MODEL, value: {{ .Values.defaultModel.bundled | quote }}}
- {name: R1_DEFAULT_IMAGE, value: {{ include "r1.image" (dict "root" $ "part" "runtime" "image" .Values.runtimeImage) | quote }}}
{{- if or .Values.imageRegistry .Values.runtimeGpuImage.repository }}
- {name: R1_DEFAULT_GPU_IMAGE, value: {{ include "r1.image" (dict "root" $ "part" "runtime-cuda" "image" .Values.runtimeGpuImage) | quote }}}
{{- end }}
- {name: R1_IMAGE_PULL_POLICY, value: {{ .Values.runtimeImage.pullPolicy }}}
{{- with .Values.operator.accelerators }}
- {name: R1_ACCELERATORS, value: {{ join "," . | quote }}}
{{- end }}
- {name: R1_MODEL_POD_TEMPLATE, value: {{ include "r1.modelPodTemplate" . | quote }}}
- {name: R1_SERVICE_MONITORS, value: {{ .Values.serviceMonitor.models | quote }}}
- {name: R1_SERVICE_MONITOR_INTERVAL, value: {{ .Values.serviceMonitor.interval | quote }}}
- {name: R1_SERVICE_MONITOR_LABELS, value: {{ toJson (.Values.serviceMonitor.labels | default dict) | quote }}}
- {name: R1_GATEWAY_SERVICE, value: {{ printf "%s/%s-gateway" .Release.Namespace (include "r1.prefix" .) | quote }}}
{{- with .Values.gateway.adminTokenSecret }}
{{- if .name }}
- {name: R1_GATEWAY_TOKEN_FILE, value: {{ printf "/etc/r1/admin-token/%s" .key | quote }}}
{{- end }}
{{- end }}
{{- if .Values.forecaster.enabled }}
- {name: R1_FORECASTER_URL, value: {{ printf "http://%s-forecaster.%s.svc:8082" (include "r1.prefix" .) .Release.Namespace | quote }}}
{{- end }}
- {name: R1_PROMETHEUS_URL, value: {{ .Values.prometheus.url | quote }}}
- {name: R1_PROMETHEUS_CLIENT, value: {{ include "r1.prometheusClient" . | quote }}}
- {name: R1_BACKTEST_IMAGE, value: {{ include "r1.image" (dict "root" $ "part" "backtest" "image" .Values.backtest.image) | quote }}}
- {name: R1_BACKTEST_TEMPLATE, value: {{ include "r1.backtestTemplate" . | quote }}}
{{- end -}}

{{- define "r1.operatorVolumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- with include "r1.prometheusMount" . }}
- {{ . }}
{{- end }}
{{- with include "r1.adminTokenMount" . }}
- {{ . }}
{{- end }}
{{- end -}}

{{- define "r1.operatorVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with include "r1.prometheusVolume" . }}
- {{ . }}
{{- end }}
{{- with include "r1.adminTokenVolume" . }}
- {{ . }}
{{- end }}
{{- end -}}
