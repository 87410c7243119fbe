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

{{/* What the schema cannot say: values that do not go together. */}}
{{- define "modelyard.validate" -}}
{{- $values := .Values -}}
{{- if not (regexMatch "^[a-z]" (include "modelyard.fullname" .)) -}}
{{- fail (printf "the objects of release %q would be called %q, and names of services begin with a letter: set fullnameOverride" .Release.Name (include "modelyard.fullname" .)) -}}
{{- end -}}
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
{{- $cpus := toString (get $group "cpus") | default (toString (get $group.resources.limits "cpu")) -}}
{{- if hasSuffix "m" $cpus -}}
{{- $cpus = trimSuffix "m" $cpus | float64 | mulf 0.001 | ceil | toString -}}{{/* as KubeRay does */}}
{{- end -}}
{{- if lt (float64 $cpus) (float64 $values.gateway.cpus) -}}
{{- fail (printf "workerGroups.%s hands out %s CPUs on a pod, and a gateway takes %v (gateway.cpus): raise cpus or resources.limits.cpu" $name $cpus $values.gateway.cpus) -}}
{{- end -}}
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
{{- $drain := max (int (dig "drain_s" 10 $values.settings)) (ternary 35 0 $values.ray.haproxy) -}}
{{- if lt (int $values.terminationGracePeriodSeconds) (add $drain 10 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be at least %d: answers in flight get %d seconds (settings.drain_s, and 35 at least with ray.haproxy), and Ray ten to stop" (int $values.terminationGracePeriodSeconds) (add $drain 10) $drain) -}}
{{- end -}}
{{- if and (hasKey $values.settings "oidc_issuer") (not (hasKey $values.settings "oidc_audience")) -}}
{{- fail "settings.oidc_issuer needs settings.oidc_audience: tokens for another service must not be taken" -}}
{{- end -}}
{{- if has (int $values.metrics.port) (list 6379 8000 8080 8265 8404 9101 10001 44217 44227 52365) -}}
{{- fail (printf "metrics.port (%d) is a port of Ray or HAProxy; take another" (int $values.metrics.port)) -}}
{{- end -}}
{{- $variables := dict "MODELYARD_API_KEY" "set by apiKey.existingSecret" "MODELYARD_STORE_PASSWORD" "set by redis" "MODELYARD_STORE" "set by redis" -}}
{{- range $index, $variable := $values.extraEnv -}}
{{- if hasKey $variables $variable.name -}}
{{- fail (printf "extraEnv[%d].name: %s is %s" $index $variable.name (get $variables $variable.name)) -}}
{{- end -}}
{{- $_ := set $variables $variable.name (printf "already in extraEnv[%d]" $index) -}}
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
{{- $bytes := 0 -}}
{{- $defaults := list -}}
{{- range $index, $expert := $values.experts -}}
{{- if hasKey $names $expert.name -}}
{{- fail (printf "experts[%d].name: %q is already declared in experts[%d]" $index $expert.name (get $names $expert.name | int)) -}}
{{- end -}}
{{- $_ := set $names $expert.name $index -}}
{{- $bytes = add $bytes (toYaml $expert | len) -}}
{{- if $expert.default -}}
{{- $defaults = append $defaults $expert.name -}}
{{- end -}}
{{- end -}}
{{- if gt (len $defaults) 1 -}}
{{- fail (printf "experts: %s are both the default; only one may be" (join " and " $defaults)) -}}
{{- end -}}
{{- if gt (int $bytes) 1000000 -}}
{{- fail (printf "experts take %d bytes, and a ConfigMap holds a million: put some into ConfigMaps of your own and name these in expertsFrom" $bytes) -}}
{{- end -}}
{{- if not $values.expertsFrom -}}
{{- range $index, $expert := $values.experts -}}
{{- range $kind, $targets := $expert.edges -}}
{{- range $targets -}}
{{- if not (hasKey $names .) -}}
{{- fail (printf "experts[%d].edges.%s: no expert is called %q" $index $kind .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
