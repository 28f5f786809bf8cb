{{/* The gateway environment, mounts and volumes, merged with those of the site. Helpers take the root. */}}

{{- define "r1.gatewayEnv" -}}
{{- $it := dict "root" . "component" "gateway" -}}
{{ include "r1.commonEnv" . }}
- {name: R1_GATEWAY_GATEWAY_SERVICE, value: {{ printf "%s/%s" .Release.Namespace (include "r1.name" $it) | quote }}}
{{- with include "r1.gatewayNamespace" . }}
- {name: R1_GATEWAY_WATCH_NAMESPACE, value: {{ . | quote }}}
{{- end }}
- {name: R1_GATEWAY_DRAIN_SECONDS, value: {{ .Values.gateway.drainSeconds | quote }}}
- {name: R1_GATEWAY_LOG_LEVEL, value: {{ .Values.gateway.logLevel }}}
{{- with .Values.gateway.apiKeysSecret }}
{{- if .name }}
- {name: R1_GATEWAY_KEYS_FILE, value: {{ printf "/etc/r1/api-keys/%s" .key | quote }}}
{{- end }}
{{- end }}
{{- with .Values.gateway.redisSecret }}
{{- if .name }}
- name: R1_GATEWAY_REDIS
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- with .Values.gateway.adminTokenSecret }}
{{- if .name }}
- {name: R1_GATEWAY_ADMIN_TOKEN_FILE, value: {{ printf "/etc/r1/admin-token/%s" .key | quote }}}
{{- end }}
{{- end }}
{{- if .Values.gateway.accessLog }}
- {name: R1_GATEWAY_ACCESS_LOG, value: "true"}
{{- end }}
{{- end -}}

{{/* Mount and volume of the token of the admin port, for the gateway and the operator; empty without one. */}}
{{- define "r1.adminTokenMount" -}}
{{- if .Values.gateway.adminTokenSecret.name -}}
{name: admin-token, mountPath: /etc/r1/admin-token, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "r1.adminTokenVolume" -}}
{{- with .Values.gateway.adminTokenSecret -}}
{{- if .name -}}
{name: admin-token, secret: {secretName: {{ .name | quote }}, items: [{key: {{ .key | quote }}, path: {{ .key | quote }}}]}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "r1.gatewayVolumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.gateway.apiKeysSecret.name }}
- {name: api-keys, mountPath: /etc/r1/api-keys, readOnly: true}
{{- end }}
{{- with include "r1.adminTokenMount" . }}
- {{ . }}
{{- end }}
{{- end -}}

{{- define "r1.gatewayVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.gateway.apiKeysSecret }}
{{- if .name }}
- name: api-keys
  secret: {secretName: {{ .name | quote }}, items: [{key: {{ .key | quote }}, path: {{ .key | quote }}}]}
{{- end }}
{{- end }}
{{- with include "r1.adminTokenVolume" . }}
- {{ . }}
{{- end }}
{{- end -}}
