# A static binary in an empty image: `docker build -t muster:0.1.0 .`
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
RUN cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin muster \
    && mv "target/$(uname -m)-unknown-linux-musl/release/muster" /muster

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /muster /muster
USER 65532:65532
EXPOSE 8080 8081 8082
ENTRYPOINT ["/muster"]
CMD ["run"]
