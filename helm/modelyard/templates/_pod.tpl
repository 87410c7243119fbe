{{/* Environment of a Ray container. */}}
{{- define "modelyard.env" -}}
{{- $redis := include "modelyard.redis" . | fromYaml -}}
- name: MODELYARD_STORE
  value: {{ printf "%s://%s%s:%d/%d" (ternary "rediss" "redis" $redis.tls) (ternary (printf "%s@" $redis.username) "" (ne $redis.username "")) $redis.host (int $redis.port) (int $redis.database) | quote }}
{{- if $redis.existingSecret }}
- name: MODELYARD_STORE_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $redis.existingSecret }}, key: {{ $redis.key }}}
{{- end }}
{{- if .Values.apiKey.existingSecret }}
- name: MODELYARD_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .Values.apiKey.existingSecret }}, key: {{ .Values.apiKey.key }}}
{{- end }}
- name: HOME
  value: /home/modelyard
- name: HF_HOME
  value: /home/modelyard/models
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
{{- if .Values.ray.haproxy }}
- name: RAY_SERVE_ENABLE_HA_PROXY
  value: "1"
- name: RAY_SERVE_HAPROXY_METRICS_ENABLED
  value: "0"
- name: RAY_SERVE_THROUGHPUT_OPTIMIZED
  value: "1"
- name: RAY_SERVE_HAPROXY_BINARY_PATH
  value: /usr/local/bin/modelyard-haproxy
- name: RAY_SERVE_HAPROXY_METRICS_PORT
  value: "9101"
- name: RAY_SERVE_HAPROXY_STATS_PORT
  value: "8404"
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Pod template of a Ray node: (dict "root" "group" "name" "component" "ports" "labels"). */}}
{{- define "modelyard.podTemplate" -}}
{{- $root := .root -}}
{{- $group := .group -}}
metadata:
  labels:
    {{- $labels := merge (dict) (default dict $group.podLabels) .labels (include "modelyard.selectorLabels" $root | fromYaml) (dict "app.kubernetes.io/component" .component) $root.Values.commonLabels }}
    {{- toYaml $labels | nindent 4 }}
  {{- with merge (dict) (default dict $group.podAnnotations) $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "modelyard.serviceAccountName" $root }}
  automountServiceAccountToken: {{ and (eq .component "ray-head") $root.Values.ray.autoscaling.enabled }}
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with $group.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $group.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $group.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $group.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $group.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if hasKey $group "topologySpreadConstraints" }}
  {{- with $group.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- else if ne .component "ray-head" }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "modelyard.selectorLabels" $root | nindent 10 }}
          modelyard/group: {{ $.name }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "modelyard.image" (list $root.Values.image $root.Chart.AppVersion) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      ports:
        {{- range $name, $port := .ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
        {{- end }}
      env:
        {{- include "modelyard.env" $root | nindent 8 }}
      {{- $sources := list }}
      {{- range $root.Values.expertSecrets }}{{ $sources = append $sources (dict "secretRef" (dict "name" .)) }}{{ end }}
      {{- with concat $sources $root.Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml $group.resources | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: experts, mountPath: /etc/modelyard/experts, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        - {name: home, mountPath: /home/modelyard}
        - {name: models, mountPath: /home/modelyard/models}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: experts
      projected:
        sources:
          - configMap: {name: {{ include "modelyard.fullname" $root }}-experts}
          {{- range $root.Values.expertsFrom }}
          - configMap: {name: {{ . }}}
          {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: {{ $root.Values.tmp.sizeLimit }}}
    - name: home
      emptyDir: {sizeLimit: 1Gi}
    - name: models
      {{- if $root.Values.cache.existingClaim }}
      persistentVolumeClaim: {claimName: {{ $root.Values.cache.existingClaim }}}
      {{- else }}
      emptyDir: {sizeLimit: {{ $root.Values.cache.sizeLimit }}}
      {{- end }}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
