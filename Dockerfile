# The image of pgpoold: one static binary, the system's CA certificates, and
# the folder for a configuration file.
#
#   docker build -t pgpoold .
#   docker run -e SUPABASE_POSTGRES_DSN -p 6432:6432 -p 6433:6433 pgpoold

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download && go mod verify
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/pgpoold ./cmd/pgpoold
RUN mkdir -p /out/etc && cp config.yaml /out/etc/config.sample.yaml

FROM scratch
COPY --from=build /out/pgpoold /usr/local/bin/pgpoold
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/etc/ /etc/pgpoold/
ENV PGPOOLD_LISTEN_ADDR=:6432 PGPOOLD_ADMIN_ADDR=:6433
EXPOSE 6432 6433
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/pgpoold", "health"]
ENTRYPOINT ["/usr/local/bin/pgpoold"]
