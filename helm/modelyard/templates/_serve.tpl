{{/* What Serve runs: the application that `modelyard up` starts, from the same module. Secrets come by environment. */}}
{{- define "modelyard.serveConfig" -}}
{{- $args := dict "nodes" (list "/etc/modelyard/experts") "watch_nodes_s" .Values.expertsWatchSeconds "trace_ratio" .Values.telemetry.traceRatio "capture_content" .Values.telemetry.captureContent "metrics_port" .Values.metrics.port -}}
{{- with include "modelyard.otlpEndpoint" . -}}
{{- $_ := set $args "otlp_endpoint" . -}}
{{- end -}}
{{- $args = merge $args .Values.settings -}}
{{- $gateway := dict "name" "gateway" "max_replicas_per_node" 1 "ray_actor_options" (dict "num_cpus" .Values.gateway.cpus "resources" (dict "modelyard_gateway" 1)) -}}
{{- with .Values.gateway.autoscaling -}}
{{- if .enabled -}}
{{- $_ := set $gateway "autoscaling_config" (dict "min_replicas" .minReplicas "max_replicas" .maxReplicas "target_ongoing_requests" .targetOngoingRequests) -}}
{{- else -}}
{{- $_ := set $gateway "num_replicas" $.Values.gateway.replicas -}}
{{- end -}}
{{- end -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: 8000
applications:
  - name: modelyard
    route_prefix: /
    import_path: deployments.app:from_args
    args:
      {{- toYaml $args | nindent 6 }}
    deployments:
      {{- toYaml (list $gateway) | nindent 6 }}
{{- end -}}
