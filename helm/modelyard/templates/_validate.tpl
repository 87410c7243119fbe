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
{{- range $key, $blocks := dict "upstreams.cidrs" $values.networkPolicy.upstreams.cidrs "upstreams.except" $values.networkPolicy.upstreams.except "redisCidrs" $values.networkPolicy.redisCidrs -}}
{{- range $index, $block := $blocks -}}
{{- if not (regexMatch "^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:]*:[0-9a-fA-F:]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$" $block) -}}
{{- fail (printf "networkPolicy.%s[%d]: %q is no address block such as 10.0.0.0/8 or fd00::/8" $key $index $block) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volumes := dict "experts" "the chart's" "tmp" "the chart's" "home" "the chart's" "models" "the chart's" -}}
{{- range $index, $volume := $values.extraVolumes -}}
{{- if hasKey $volumes $volume.name -}}
{{- fail (printf "extraVolumes[%d].name: %q is already %s" $index $volume.name (get $volumes $volume.name)) -}}
{{- end -}}
{{- $_ := set $volumes $volume.name (printf "in extraVolumes[%d]" $index) -}}
{{- end -}}
{{- $mounts := dict "/etc/modelyard/experts" "the chart's" "/tmp" "the chart's" "/home/modelyard" "the chart's" "/home/modelyard/models" "the chart's" -}}
{{- if $values.ray.autoscaling.enabled -}}
{{- $_ := set $mounts "/tmp/ray" "the chart's" -}}
{{- end -}}
{{- range $index, $mount := $values.extraVolumeMounts -}}
{{- if not (hasKey $volumes $mount.name) -}}
{{- fail (printf "extraVolumeMounts[%d].name: no volume is called %q; there is %s" $index $mount.name (keys $volumes | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if hasKey $mounts $mount.mountPath -}}
{{- fail (printf "extraVolumeMounts[%d].mountPath: %q is already %s" $index $mount.mountPath (get $mounts $mount.mountPath)) -}}
{{- end -}}
{{- $_ := set $mounts $mount.mountPath (printf "in extraVolumeMounts[%d]" $index) -}}
{{- end -}}
{{- $containers := dict "ray-head" "the chart's" "ray-worker" "the chart's" "autoscaler" "KubeRay's" "wait-gcs-ready" "KubeRay's" -}}
{{- range $key := list "extraContainers" "extraInitContainers" -}}
{{- range $index, $container := get $values $key -}}
{{- if hasKey $containers $container.name -}}
{{- fail (printf "%s[%d].name: %q is already %s" $key $index $container.name (get $containers $container.name)) -}}
{{- end -}}
{{- $_ := set $containers $container.name (printf "in %s[%d]" $key $index) -}}
{{- end -}}
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
{{- $kinds := concat (list "embedding" "http" "llama_cpp" "mcp" "openai" "plan" "speech" "transformers") $values.extraKinds -}}
{{- $bytes := 0 -}}
{{- $defaults := list -}}
{{- range $index, $expert := $values.experts -}}
{{- if hasKey $names $expert.name -}}
{{- fail (printf "experts[%d].name: %q is already declared in experts[%d]" $index $expert.name (get $names $expert.name | int)) -}}
{{- end -}}
{{- $_ := set $names $expert.name $index -}}
{{- if has $expert.name (list "auto" "none" "plan" "request") -}}
{{- fail (printf "experts[%d].name: %q is a word of the service; take another" $index $expert.name) -}}
{{- end -}}
{{- if not (has $expert.kind $kinds) -}}
{{- fail (printf "experts[%d].kind: there is no kind %q; there is %s, and what extraKinds names" $index $expert.kind (join ", " $kinds)) -}}
{{- end -}}
{{- range $edge, $targets := omit (default dict $expert.edges) "feeds" -}}
{{- if has $expert.name $targets -}}
{{- fail (printf "experts[%d].edges.%s names the expert itself" $index $edge) -}}
{{- end -}}
{{- end -}}
{{- if and $expert.cascade (not (dig "edges" "escalates" list $expert)) -}}
{{- fail (printf "experts[%d].cascade needs edges.escalates: the experts to ask when an answer is not good enough" $index) -}}
{{- end -}}
{{- if and $expert.outputs (not (has "json" (default list $expert.produces))) -}}
{{- fail (printf "experts[%d].outputs are fields of a JSON answer: say produces: [json]" $index) -}}
{{- end -}}
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
