{{/* Names and labels. A component is operator, gateway or forecaster; helpers take (dict "root" $ "component" "..."). */}}

{{- define "r1.prefix" -}}
{{- .Values.namePrefix | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "r1.name" -}}
{{- printf "%s-%s" (include "r1.prefix" .root) .component -}}
{{- end -}}

{{/* Cluster-scoped names carry the namespace, so that two releases do not collide. */}}
{{- define "r1.clusterName" -}}
{{- printf "%s-%s" .root.Release.Namespace (include "r1.name" .) -}}
{{- end -}}

{{- define "r1.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "r1.labels" -}}
{{ include "r1.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: r1
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* name, namespace and labels: the metadata of every namespaced object of one component; "siteLabels" is optional. */}}
{{- define "r1.metadata" -}}
name: {{ include "r1.name" . }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "r1.mapByKey" (dict "own" (include "r1.labels" .) "site" .siteLabels) | nindent 2 }}
{{- end -}}

{{/*
Image reference: repository, or r1-PART in imageRegistry; the tag defaults to appVersion. There is no default registry,
because any registry account could belong to a third party. Takes (dict "root" $ "part" "operator" "image" .Values.operator.image).
*/}}
{{- define "r1.image" -}}
{{- $registry := .root.Values.imageRegistry }}
{{- if not (or .image.repository $registry) }}
{{- $value := eq .part "runtime" | ternary "runtimeImage.repository" (printf "%s.image.repository" .part) }}
{{- fail (printf "imageRegistry: the image r1-%s has no registry. Set imageRegistry to the registry that holds the six images (--set imageRegistry=REGISTRY), or %s. `make images` builds them on this machine as localhost/r1-*; docs/install.md has the commands to push them to a registry" .part $value) }}
{{- end }}
{{- printf "%s:%s" (.image.repository | default (printf "%s/r1-%s" $registry .part)) (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
