{{- define "modelyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 41 | trimSuffix "-" -}}
{{- end -}}

{{- define "modelyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 41 | trimSuffix "-" -}}
{{- else if contains (include "modelyard.name" .) .Release.Name -}}
{{- .Release.Name | trunc 41 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "modelyard.name" .) | trunc 41 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which pods are found. They never change during the life of a release. */}}
{{- define "modelyard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelyard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "modelyard.labels" -}}
{{ include "modelyard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: modelyard
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (replace "+" "_" .Chart.Version) }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object: (list context name component extra-labels extra-annotations). */}}
{{- define "modelyard.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
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

{{- define "modelyard.otlpEndpoint" -}}
{{- if .Values.telemetry.otlpEndpoint -}}
{{- .Values.telemetry.otlpEndpoint -}}
{{- else if .Values.jaeger.enabled -}}
http://{{ include "modelyard.jaegerName" . }}:4318
{{- end -}}
{{- end -}}

{{/* What the schema cannot say: values that do not go together. */}}
{{- define "modelyard.validate" -}}
{{- $values := .Values -}}
{{- if and (not $values.redis.external.host) (not $values.redis.valkey.enabled) -}}
{{- fail "redis.external.host is empty and redis.valkey.enabled is false: gateways on several pods need one store; name an existing Redis or enable the small Valkey for trials" -}}
{{- end -}}
{{- if and $values.redis.external.host $values.redis.valkey.enabled -}}
{{- fail "redis.external.host and redis.valkey.enabled are both set: a release has one store; set redis.valkey.enabled to false" -}}
{{- end -}}
{{- $places := 0 -}}
{{- range $name, $group := $values.workerGroups -}}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) -}}
{{- fail (printf "workerGroups.%s.minReplicas (%d) is above maxReplicas (%d)" $name (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- if or (lt (int $group.replicas) (int $group.minReplicas)) (gt (int $group.replicas) (int $group.maxReplicas)) -}}
{{- fail (printf "workerGroups.%s.replicas (%d) is not between minReplicas (%d) and maxReplicas (%d)" $name (int $group.replicas) (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- if and $group.gateway (dig "rayStartParams" "resources" "" $group) -}}
{{- fail (printf "workerGroups.%s.rayStartParams.resources is the chart's own where gateway is true; make another group for other resources" $name) -}}
{{- end -}}
{{- if $group.gateway -}}
{{- $places = add $places (ternary (int $group.maxReplicas) (int $group.replicas) $values.ray.autoscaling.enabled) -}}
{{- end -}}
{{- end -}}
{{- $auto := $values.gateway.autoscaling -}}
{{- if and $auto.enabled (gt (int $auto.minReplicas) (int $auto.maxReplicas)) -}}
{{- fail (printf "gateway.autoscaling.minReplicas (%d) is above maxReplicas (%d)" (int $auto.minReplicas) (int $auto.maxReplicas)) -}}
{{- end -}}
{{- $wanted := ternary (int $auto.maxReplicas) (int $values.gateway.replicas) $auto.enabled -}}
{{- if lt (int $places) $wanted -}}
{{- fail (printf "%s asks for %d gateways, one to a pod, and the workerGroups with gateway: true have room for %d; raise their %s" (ternary "gateway.autoscaling.maxReplicas" "gateway.replicas" $auto.enabled) $wanted (int $places) (ternary "maxReplicas" "replicas" $values.ray.autoscaling.enabled)) -}}
{{- end -}}
{{- $least := ternary (int $auto.minReplicas) (int $values.gateway.replicas) $auto.enabled -}}
{{- if and $values.podDisruptionBudget.enabled (ge (int $values.podDisruptionBudget.minAvailable) $least) -}}
{{- fail (printf "podDisruptionBudget.minAvailable (%d) leaves none of %d gateways to be moved: no node could be drained" (int $values.podDisruptionBudget.minAvailable) $least) -}}
{{- end -}}
{{- $upgrade := $values.ray.upgrade -}}
{{- if eq $upgrade.type "NewClusterWithIncrementalUpgrade" -}}
{{- if not $upgrade.gatewayClassName -}}
{{- fail "ray.upgrade.gatewayClassName is empty: NewClusterWithIncrementalUpgrade moves traffic with a Gateway of that class" -}}
{{- end -}}
{{- if not $values.ray.autoscaling.enabled -}}
{{- fail "ray.autoscaling.enabled is false: KubeRay needs it for NewClusterWithIncrementalUpgrade" -}}
{{- end -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway that the route hangs on" -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name at least one host" -}}
{{- end -}}
{{- $own := dict "nodes" "experts" "watch_nodes_s" "expertsWatchSeconds" "store" "redis" "store_password" "redis" "api_key" "apiKey.existingSecret" "replicas" "gateway.replicas" "otlp_endpoint" "telemetry.otlpEndpoint" "trace_ratio" "telemetry.traceRatio" "capture_content" "telemetry.captureContent" "metrics_port" "metrics.port" -}}
{{- range $name, $_ := $values.settings -}}
{{- if hasKey $own $name -}}
{{- fail (printf "settings.%s is not set here but by %s" $name (get $own $name)) -}}
{{- else if has $name (list "address" "host" "port" "num_cpus") -}}
{{- fail (printf "settings.%s is for a service without Kubernetes; leave it out" $name) -}}
{{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- range $index, $expert := $values.experts -}}
{{- if hasKey $names $expert.name -}}
{{- fail (printf "experts[%d].name: %q is already declared in experts[%d]" $index $expert.name (get $names $expert.name | int)) -}}
{{- end -}}
{{- $_ := set $names $expert.name $index -}}
{{- end -}}
{{- end -}}
