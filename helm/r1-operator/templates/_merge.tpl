{{/*
What a site sets beside what the chart sets. Two entries of one key are refused by server-side apply and by Helm 4, so
they are merged: an entry of the site replaces the chart's entry of the same key, in its place.
*/}}

{{/* A list of objects that one field identifies. Takes (dict "key" "name" "own" "<yaml list>" "site" (list ...)). */}}
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

{{/* Labels or annotations. Takes (dict "own" "<yaml map>" "site" (dict ...)). */}}
{{- define "r1.mapByKey" -}}
{{- $merged := fromYaml .own }}
{{- range $key, $value := .site }}{{ $_ := set $merged $key $value }}{{ end }}
{{- toYaml $merged }}
{{- end -}}
