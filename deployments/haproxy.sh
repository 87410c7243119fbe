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
#   none of the gateway's places. Of requests whose body goes on there are at most MODELYARD_HAPROXY_BODIES, three quarters
#   of the gateway's places, at a time: the last quarter is for requests that are there.
# - One address has at most three quarters of the connections: from there on its requests are refused, and later its
#   connections. A load balancer, too, is one address, and lets in more than that only when nearly everything is taken.
# - Its own errors look like all others, where Serve makes each of them a 500 in plain text; so do those of the proxy that
#   Serve has behind it for when no gateway is there, and a path that nobody serves yet is 503: the gateway serves all.
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
        page "$pages/full.http" "503 Service Unavailable" overloaded_error overloaded \
            "this address has too many connections" 'retry-after: 1\r\nconnection: close\r\n'
        most=$(sed -n -E 's/^[[:space:]]*maxconn ([0-9]+)[[:space:]]*$/\1/p' "$argument" | head -n 1)
        most=${most:-4096}
        first='\n    tcp-request connection track-sc1 src table modelyard_sources'
        first="$first\\n    tcp-request connection reject if { sc1_conn_cur gt $((most * 15 / 16)) }"
        first="$first\\n    http-request set-var(txn.came) req.body_len"
        first="$first\\n    acl goes_on req.body_size,sub(txn.came) gt 0"
        first="$first\\n    acl goes_on req.hdr(transfer-encoding) -m found"
        first="$first\\n    http-request track-sc0 int(1) table modelyard_bodies if goes_on"
        first="$first\\n    http-request deny deny_status 503 if { sc0_conn_cur gt ${MODELYARD_HAPROXY_BODIES:-750} }"
        first="$first\\n    http-request deny deny_status 503 errorfile $pages/full.http if { sc1_conn_cur gt $((most * 3 / 4)) }"
        first="$first\\n    http-response return status 502 errorfile $pages/502.http"
        first="$first if { status 500 } { res.hdr(content-type) -m beg text/plain }"
        first="$first\\n    http-response return status 503 errorfile $pages/503.http"
        first="$first if { status 404 } { res.hdr(content-type) -m beg text/plain }"
        ours='\n    timeout queue 1s\n    timeout server 3600s\n    timeout http-request 10s'
        ours="$ours\\n    option http-buffer-request\\n    option http-ignore-probes"
        ours="$ours\\n    errorfile 408 $pages/408.http"
        sed -i -E \
            -e "/^[[:space:]]*option splice-request[[:space:]]*$/d" \
            -e "s#^defaults[[:space:]]*\$#&$ours#" \
            -e "s#^([[:space:]]*errorfile (502|503) ).*\$#\1$pages/\2.http#" \
            -e "s/^([[:space:]]*bind )[*]?:(${RAY_SERVE_HAPROXY_METRICS_PORT})[[:space:]]*$/\1127.0.0.1:\2/" \
            -e "s/^([[:space:]]*bind )[*]?:(${RAY_SERVE_HAPROXY_STATS_PORT})[[:space:]]*$/\1127.0.0.1:\2/" \
            -e "s#^([[:space:]]*http-request return status )404 content-type text/plain .*\$#\1503 errorfile $pages/503.http#" \
            -e "s#^frontend http_frontend[[:space:]]*\$#&$first#" \
            "$argument"
        printf 'backend modelyard_%s\n    stick-table type %s expire 10s store conn_cur\n' \
            bodies 'integer size 16' sources 'ipv6 size 100k' >>"$argument"
    fi
done
exec "$MODELYARD_HAPROXY" "$@"
