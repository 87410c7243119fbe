{{/* The cluster of a RayService: head, worker groups, authentication, fault tolerance, autoscaling. */}}
{{- define "modelyard.clusterConfig" -}}
{{- $root := . -}}
{{- $redis := include "modelyard.redis" . | fromYaml -}}
rayVersion: {{ .Values.ray.version | quote }}
authOptions:
  mode: {{ ternary "token" "disabled" .Values.ray.auth.enabled }}
  {{- if and .Values.ray.auth.enabled .Values.ray.auth.existingSecret }}
  secretName: {{ .Values.ray.auth.existingSecret | quote }}
  {{- end }}
{{- if .Values.ray.faultTolerance.enabled }}
gcsFaultToleranceOptions:
  redisAddress: {{ printf "%s%s:%d" (ternary "rediss://" "" $redis.tls) $redis.host (int $redis.port) | quote }}
  {{- if $redis.username }}
  redisUsername:
    value: {{ $redis.username | quote }}
  {{- end }}
  {{- if $redis.existingSecret }}
  redisPassword:
    valueFrom:
      secretKeyRef: {name: {{ $redis.existingSecret | quote }}, key: {{ $redis.key | quote }}}
  {{- end }}
{{- end }}
enableInTreeAutoscaling: {{ .Values.ray.autoscaling.enabled }}
{{- if .Values.ray.autoscaling.enabled }}
autoscalerOptions:
  idleTimeoutSeconds: {{ .Values.ray.autoscaling.idleTimeoutSeconds }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  resources:
    {{- toYaml .Values.ray.autoscaling.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: tmp, mountPath: /tmp/ray, subPath: ray}
    - {name: home, mountPath: /home/modelyard}
{{- end }}
headGroupSpec:
  serviceType: ClusterIP
  rayStartParams:
    {{- toYaml (merge (dict "num-cpus" "0" "dashboard-host" "0.0.0.0") .Values.head.rayStartParams) | nindent 4 }}
  template:
    {{- $ports := dict "gcs-server" 6379 "dashboard" 8265 "client" 10001 "metrics" 8080 "serve" 8000 }}
    {{- include "modelyard.podTemplate" (dict "root" . "group" .Values.head "name" "head" "component" "ray-head" "ports" $ports "labels" (dict "modelyard/group" "head" "modelyard/ray-only" "true")) | nindent 4 }}
workerGroupSpecs:
  {{- range $name, $group := .Values.workerGroups }}
  - groupName: {{ $name | quote }}
    replicas: {{ $group.replicas }}
    minReplicas: {{ $group.minReplicas }}
    maxReplicas: {{ $group.maxReplicas }}
    {{- $start := dict }}
    {{- with toString (get $group "cpus") }}{{ $start = set $start "num-cpus" . }}{{ end }}
    {{- $labels := dict "modelyard/group" $name }}
    {{- $ports := dict "metrics" 8080 "serve" 8000 }}
    {{- if $group.gateway }}
    {{- $start = set $start "resources" "'{\"modelyard_gateway\": 1}'" }}
    {{- $labels = set $labels "modelyard/gateway" "true" }}
    {{- $ports = set $ports "gateway" $root.Values.metrics.port }}
    {{- else }}
    {{- $labels = set $labels "modelyard/ray-only" "true" }}
    {{- end }}
    rayStartParams:
      {{- toYaml (merge $start (default dict $group.rayStartParams)) | nindent 6 }}
    template:
      {{- include "modelyard.podTemplate" (dict "root" $root "group" $group "name" $name "component" "ray-worker" "ports" $ports "labels" $labels) | nindent 6 }}
  {{- end }}
{{- end -}}
