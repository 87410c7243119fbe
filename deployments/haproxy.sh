#!/bin/sh
# Starts the HAProxy that Ray Serve configures. MODELYARD_HAPROXY is the real program. In the configuration we change what
# Serve has no setting for:
# - Its metrics and statistics pages are on the loopback address only.
# - Splicing of requests goes: a HAProxy that spliced a body no longer sees the client leave before the answer has begun,
#   and the model would go on working for nobody.
# - A request that the gateway has no time for (see intake.py) waits for a second, and is then refused.
# - A session whose gateway left while HAProxy was writing to it ends after an hour, like one whose client fell silent:
#   without a time for servers it never does.
# - A request has ten seconds to come, and is passed on with its body, or the first 16 kB of it: whoever sends slowly takes
#   none of the gateway's places.
# - Its own errors look like all others, where Serve makes each of them a 500 in plain text.
page() { # file, status line, type, code, message, further header
    body="{\"error\":{\"message\":\"$5\",\"type\":\"$3\",\"param\":null,\"code\":\"$4\"}}"
    printf 'HTTP/1.1 %s\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s' \
        "$2" "${6:-}" "${#body}" "$body" >"$1"
}
for argument in "$@"; do
    if [ -f "$argument" ] && [ -w "$argument" ]; then
        pages=$(dirname "$argument")
        page "$pages/408.http" "408 Request Timeout" timeout_error deadline_exceeded "the request did not come in time"
        page "$pages/502.http" "502 Bad Gateway" upstream_error node_failed \
            "the gateway ended while it worked on this request"
        page "$pages/503.http" "503 Service Unavailable" overloaded_error overloaded \
            "the service is starting, or has more requests than it can work on" 'retry-after: 1\r\n'
        ours='\n    timeout queue 1s\n    timeout server 3600s\n    timeout http-request 10s'
        ours="$ours\\n    option http-buffer-request\\n    option http-ignore-probes"
        ours="$ours\\n    errorfile 408 $pages/408.http"
        sed -i -E \
            -e "/^[[:space:]]*option splice-request[[:space:]]*$/d" \
            -e "s#^defaults[[:space:]]*\$#&$ours#" \
            -e "s#^([[:space:]]*errorfile (502|503) ).*\$#\1$pages/\2.http#" \
            -e "s/^([[:space:]]*bind )[*]?:(${RAY_SERVE_HAPROXY_METRICS_PORT})[[:space:]]*$/\1127.0.0.1:\2/" \
            -e "s/^([[:space:]]*bind )[*]?:(${RAY_SERVE_HAPROXY_STATS_PORT})[[:space:]]*$/\1127.0.0.1:\2/" \
            "$argument"
    fi
done
exec "$MODELYARD_HAPROXY" "$@"
