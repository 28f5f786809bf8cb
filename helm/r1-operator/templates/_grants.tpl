{{/* What each service account may do where R1Inferences live. */}}

{{- define "r1.operatorRules" -}}
- apiGroups: [deepseek.ai]
  resources: [r1inferences]
  verbs: [get, list, watch]
- apiGroups: [deepseek.ai]
  resources: [r1inferences/status]
  verbs: [patch]
# Deleted are finished ones whose ttlSecondsAfterFinished is over.
- apiGroups: [deepseek.ai]
  resources: [r1backtests]
  verbs: [get, list, watch, delete]
- apiGroups: [deepseek.ai]
  resources: [r1backtests/status]
  verbs: [patch]
# Children block their owner's deletion, which clusters with OwnerReferencesPermissionEnforcement allow only so.
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
# Patched is one annotation: which model pods go first when the count falls.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Also where that API does not exist: the operator asks for it, and only with this right is the answer "not found".
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
# A route that cannot be used is reported on its ConfigMap. Created only: no Event can be changed or read.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* A gateway watches one namespace or all of them: with several in watchNamespaces it needs to read them all. */}}
{{- define "r1.gatewayNamespace" -}}
{{- if eq (len (.Values.watchNamespaces | default list)) 1 }}{{ first .Values.watchNamespaces }}{{ end -}}
{{- end -}}

{{/*
The rules, bound: a Role and a RoleBinding in each of the namespaces, or, of none, ClusterRole and ClusterRoleBinding.
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
