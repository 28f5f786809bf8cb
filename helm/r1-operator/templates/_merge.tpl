{{/*
Merge of the site's entries into those of the chart. Server-side apply and Helm 4 reject two entries with one key, so an
entry of the site replaces the chart's entry with the same key, at the same position.
*/}}

{{/* Merge lists of objects by a key field. Takes (dict "key" "name" "own" "<yaml list>" "site" (list ...)). */}}
{{- define "r1.listByKey" -}}
{{- $key := .key }}
{{- $order := list }}
{{- $items := dict }}
{{- range $item := concat (fromYamlArray (.own | default "[]")) (.site | default list) }}
{{- $name := get $item $key | toString }}
{{- if not (hasKey $items $name) }}{{ $order = append $order $name }}{{ end }}
{{- $_ := set $items $name $item }}
{{- end }}
{{- $merged := list }}
{{- range $name := $order }}{{ $merged = append $merged (get $items $name) }}{{ end }}
{{- toYaml $merged }}
{{- end -}}

{{/* Merge labels or annotations. Takes (dict "own" "<yaml map>" "site" (dict ...)). */}}
{{- define "r1.mapByKey" -}}
{{- $merged := fromYaml .own }}
{{- range $key, $value := .site }}{{ $_ := set $merged $key $value }}{{ end }}
{{- toYaml $merged }}
{{- end -}}
