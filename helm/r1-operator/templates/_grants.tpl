{{/* Permissions of each service account in the namespaces of R1Inferences. */}}

{{- define "r1.operatorRules" -}}
- apiGroups: [deepseek.ai]
  resources: [r1inferences]
  verbs: [get, list, watch]
- apiGroups: [deepseek.ai]
  resources: [r1inferences/status]
  verbs: [patch]
# Delete: finished R1Backtests after ttlSecondsAfterFinished.
- apiGroups: [deepseek.ai]
  resources: [r1backtests]
  verbs: [get, list, watch, delete]
- apiGroups: [deepseek.ai]
  resources: [r1backtests/status]
  verbs: [patch]
# Children set blockOwnerDeletion, which OwnerReferencesPermissionEnforcement allows only with this permission.
- apiGroups: [deepseek.ai]
  resources: [r1inferences/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Patch: the pod deletion cost of model pods before a scale-down.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Also for a cluster without this API: only with this permission is the response "not found" instead of "forbidden".
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
{{- end -}}

{{- define "r1.gatewayRules" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# Create: Events on the ConfigMap of an invalid route.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* A gateway watches one namespace or all: with several watchNamespaces it needs to read all. */}}
{{- define "r1.gatewayNamespace" -}}
{{- if eq (len (.Values.watchNamespaces | default list)) 1 }}{{ first .Values.watchNamespaces }}{{ end -}}
{{- end -}}

{{/*
Role and RoleBinding with the rules in each namespace; ClusterRole and ClusterRoleBinding without namespaces.
Takes (dict "root" $ "component" "..." "namespaces" (list ...) "rules" "<yaml>").
*/}}
{{- define "r1.grant" -}}
{{- $it := . }}
{{- $account := include "r1.name" $it }}
{{- $name := include "r1.clusterName" $it }}
{{- range $namespace := .namespaces | default (list "") }}
{{- $scope := ternary "" "Cluster" (ne $namespace "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}Role
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "r1.labels" $it | nindent 4 }}
rules:
  {{- $it.rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}RoleBinding
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "r1.labels" $it | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope }}Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $account }}
    namespace: {{ $it.root.Release.Namespace }}
{{- end }}
{{- end -}}
