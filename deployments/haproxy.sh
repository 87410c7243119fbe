#!/bin/sh
# Starts the HAProxy that Ray Serve configures, with its metrics and statistics pages on the loopback address only.
# Serve writes them for every address and has no setting for that. MODELYARD_HAPROXY is the real program.
# Splicing of requests goes: a HAProxy that spliced a body no longer sees the client leave before the answer has begun,
# and the model would go on working for nobody.
for argument in "$@"; do
    if [ -f "$argument" ] && [ -w "$argument" ]; then
        sed -i -E \
            -e "/^[[:space:]]*option splice-request[[:space:]]*$/d" \
            -e "s/^([[:space:]]*bind )[*]?:(${RAY_SERVE_HAPROXY_METRICS_PORT})[[:space:]]*$/\1127.0.0.1:\2/" \
            -e "s/^([[:space:]]*bind )[*]?:(${RAY_SERVE_HAPROXY_STATS_PORT})[[:space:]]*$/\1127.0.0.1:\2/" \
            "$argument"
    fi
done
exec "$MODELYARD_HAPROXY" "$@"
