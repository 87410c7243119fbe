{{/* Environment of a Ray container: (list context component). What `extraEnv` names is taken from there. */}}
{{- define "modelyard.env" -}}
{{- $root := index . 0 -}}
{{- $theirs := dict -}}
{{- range $root.Values.extraEnv }}{{ $_ := set $theirs .name true }}{{ end -}}
{{- $all := list -}}
{{- range include "modelyard.ownEnv" $root | fromYamlArray -}}
{{- if not (hasKey $theirs .name) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- /* Ray's own bound, 30 seconds, is shorter than a gateway behind HAProxy takes. The head has nothing to drain. */ -}}
{{- if and (eq (index . 1) "ray-worker") (not (hasKey $theirs "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")) -}}
{{- $all = append $all (dict "name" "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" "value" (sub $root.Values.terminationGracePeriodSeconds 10 | toString)) -}}
{{- end -}}
{{- toYaml (concat $all $root.Values.extraEnv) -}}
{{- end -}}

{{- define "modelyard.ownEnv" -}}
{{- $redis := include "modelyard.redis" . | fromYaml -}}
- name: MODELYARD_STORE
  value: {{ printf "%s://%s%s:%d/%d" (ternary "rediss" "redis" $redis.tls) (ternary (printf "%s@" $redis.username) "" (ne $redis.username "")) $redis.host (int $redis.port) (int $redis.database) | quote }}
{{- if $redis.existingSecret }}
- name: MODELYARD_STORE_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $redis.existingSecret | quote }}, key: {{ $redis.key | quote }}}
{{- end }}
{{- if .Values.apiKey.existingSecret }}
- name: MODELYARD_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .Values.apiKey.existingSecret | quote }}, key: {{ .Values.apiKey.key | quote }}}
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
{{- end -}}

{{/* Pod template of a Ray node: (dict "root" "group" "name" "component" "ports" "labels"). */}}
{{- define "modelyard.podTemplate" -}}
{{- $root := .root -}}
{{- $group := .group -}}
metadata:
  labels:
    {{- $labels := merge (dict "app.kubernetes.io/component" .component) .labels (include "modelyard.selectorLabels" $root | fromYaml) (default dict $group.podLabels) $root.Values.commonLabels }}
    {{- toYaml $labels | nindent 4 }}
  {{- with merge (dict) (default dict $group.podAnnotations) $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "modelyard.serviceAccountName" $root | quote }}
  automountServiceAccountToken: {{ and (eq .component "ray-head") $root.Values.ray.autoscaling.enabled }}
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with $group.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $group.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
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
      matchLabelKeys: [ray.io/cluster]
      labelSelector:
        matchLabels:
          {{- include "modelyard.selectorLabels" $root | nindent 10 }}
          modelyard/group: {{ $.name | quote }}
    {{- end }}
  {{- end }}
  {{- with $root.Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
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
        {{- include "modelyard.env" (list $root .component) | nindent 8 }}
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
        {{- if and (eq .component "ray-head") $root.Values.ray.autoscaling.enabled }}
        # KubeRay would put a volume of its own there, without a limit, which no further container sees.
        - {name: tmp, mountPath: /tmp/ray, subPath: ray}
        {{- end }}
        - {name: home, mountPath: /home/modelyard}
        - {name: models, mountPath: /home/modelyard/models}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $root.Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: experts
      projected:
        sources:
          - configMap: {name: {{ include "modelyard.fullname" $root }}-experts}
          {{- range $root.Values.expertsFrom }}
          - configMap: {name: {{ . | quote }}}
          {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: {{ $root.Values.tmp.sizeLimit }}}
    - name: home
      emptyDir: {sizeLimit: 1Gi}
    - name: models
      {{- if $root.Values.cache.existingClaim }}
      persistentVolumeClaim: {claimName: {{ $root.Values.cache.existingClaim | quote }}}
      {{- else }}
      emptyDir: {sizeLimit: {{ $root.Values.cache.sizeLimit }}}
      {{- end }}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
