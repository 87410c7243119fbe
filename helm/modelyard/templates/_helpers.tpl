{{- define "modelyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 41 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the release's objects. What is too long ends with a hash, so that two names that begin alike stay two. */}}
{{- define "modelyard.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name | replace "." "-" -}}
{{- if not (or .Values.fullnameOverride (contains (include "modelyard.name" .) .Release.Name)) -}}
{{- $name = printf "%s-%s" $name (include "modelyard.name" .) -}}
{{- end -}}
{{- if gt (len $name) 41 -}}
{{- $name = printf "%s-%s" ($name | trunc 34 | trimSuffix "-") ($name | sha256sum | trunc 6) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Labels by which pods are found. They never change during the life of a release. */}}
{{- define "modelyard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelyard.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of a pod of another kind than Ray's: (list context component). No version: a new chart replaces no pod by itself. */}}
{{- define "modelyard.podLabels" -}}
{{- $root := index . 0 -}}
{{- toYaml (merge (dict "app.kubernetes.io/component" (index . 1)) (include "modelyard.selectorLabels" $root | fromYaml) $root.Values.commonLabels) -}}
{{- end -}}

{{- define "modelyard.labels" -}}
{{- $free := dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service "app.kubernetes.io/part-of" "modelyard" "helm.sh/chart" (printf "%s-%s" .Chart.Name (replace "+" "_" .Chart.Version)) -}}
{{- toYaml (merge (include "modelyard.selectorLabels" . | fromYaml) .Values.commonLabels $free) -}}
{{- end -}}

{{/* Metadata of an object: (list context name component extra-labels extra-annotations). */}}
{{- define "modelyard.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 | quote }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- $labels := include "modelyard.labels" $root | fromYaml }}
  {{- with index . 2 }}{{ $labels = set $labels "app.kubernetes.io/component" . }}{{ end }}
  {{- if gt (len .) 3 }}{{ $labels = merge (dict) (index . 3 | default dict) $labels }}{{ end }}
  {{- toYaml $labels | nindent 2 }}
{{- $annotations := merge (dict) (gt (len .) 4 | ternary (last . | default dict) dict) $root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Reference of an image: (list image default-tag). */}}
{{- define "modelyard.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{- define "modelyard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "modelyard.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "modelyard.serveService" -}}
{{- include "modelyard.fullname" . }}-serve-svc
{{- end -}}

{{- define "modelyard.valkeyName" -}}
{{- include "modelyard.fullname" . }}-valkey
{{- end -}}

{{- define "modelyard.jaegerName" -}}
{{- include "modelyard.fullname" . }}-jaeger
{{- end -}}

{{/* The Redis in use, as YAML: host, port, database, tls, username, existingSecret, key. */}}
{{- define "modelyard.redis" -}}
{{- if .Values.redis.external.host -}}
{{- toYaml .Values.redis.external -}}
{{- else -}}
{{- $valkey := .Values.redis.valkey -}}
{{- toYaml (dict "host" (include "modelyard.valkeyName" .) "port" 6379 "database" 0 "tls" false "username" "" "existingSecret" $valkey.existingSecret "key" $valkey.key) -}}
{{- end -}}
{{- end -}}

{{/* TCP port of the OTLP endpoint. */}}
{{- define "modelyard.otlpPort" -}}
{{- $url := urlParse .Values.telemetry.otlpEndpoint -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}

{{/* Number of the network of an IPv4 address block, of so many bits: (list block bits). */}}
{{- define "modelyard.network" -}}
{{- $number := 0 -}}
{{- range splitList "." (splitList "/" (index . 0) | first) -}}
{{- $number = add (mul $number 256) (atoi .) -}}
{{- end -}}
{{- range until (sub 32 (index . 1) | int) -}}
{{- $number = div $number 2 -}}
{{- end -}}
{{- $number -}}
{{- end -}}

{{/* The blocks that are left out of an address block, as YAML: Kubernetes takes only those that lie in it. (list block excepts) */}}
{{- define "modelyard.except" -}}
{{- $block := index . 0 -}}
{{- $bits := splitList "/" $block | last | atoi -}}
{{- $within := list -}}
{{- range index . 1 -}}
{{- $longer := splitList "/" . | last | atoi -}}
{{- if ne (contains ":" .) (contains ":" $block) -}}
{{- else if contains ":" . -}}
{{- $within = append $within . -}}
{{- else if gt $longer $bits -}}
{{- if eq (include "modelyard.network" (list . $bits)) (include "modelyard.network" (list $block $bits)) -}}
{{- $within = append $within . -}}
{{- end -}}
{{- else if eq (include "modelyard.network" (list . $longer)) (include "modelyard.network" (list $block $longer)) -}}
{{- fail (printf "networkPolicy.upstreams.cidrs: nothing of %s is left by networkPolicy.upstreams.except %s; take it out of one of them" $block .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $within -}}
{{- end -}}

{{- define "modelyard.otlpEndpoint" -}}
{{- if .Values.telemetry.otlpEndpoint -}}
{{- .Values.telemetry.otlpEndpoint -}}
{{- else if .Values.jaeger.enabled -}}
http://{{ include "modelyard.jaegerName" . }}:4318
{{- end -}}
{{- end -}}
