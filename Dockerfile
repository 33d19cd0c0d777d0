# syntax=docker/dockerfile:1
# Two images from one build: `holdfast`, which every role and the one-shots share, and `simulator`, the other party.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the layer, so that a changed line does not build the world again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package holdfast --package wechat-sim --bins \
    && install -D -t /out target/release/holdfast target/release/wechat-sim

FROM debian:bookworm-slim AS base
# The certificates of public authorities: the real WeChat is reached by https.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin holdfast \
    # A volume mounted here is born with this owner. Each role reads its keys under a user of its own.
    && install -d -o 10001 -m 700 /wechat \
    && install -d -o 10001 -m 755 /keys/merchant /keys/apiv3 /keys/public
USER 10001
# Which address tells that the role is ready; bash asks, as the image has no HTTP client.
ENV READY_PORT=9090 READY_PATH=/readyz
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/$READY_PORT && printf 'GET %s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' $READY_PATH >&3 && head -n 1 <&3 | grep -q ' 200'"]

FROM base AS simulator
COPY --from=build /out/wechat-sim /usr/local/bin/
ENV READY_PORT=8090 READY_PATH=/_sim/ledger
ENTRYPOINT ["wechat-sim"]

# Last, so that it is what `docker build` makes when no target is named.
FROM base AS holdfast
COPY --from=build /out/holdfast /usr/local/bin/
ENV HOLDFAST_HEALTH__LISTEN=0.0.0.0:9090 HOLDFAST_LOG__FORMAT=json
ENTRYPOINT ["holdfast"]
