# The operator's image: one static binary and nothing else. It serves `mail-failover agent` and `mail-failover simulate` as well.
#
#   docker build --tag mail-failover-operator:0.1.0 .          # Podman and buildah alike: everything is compiled in the image BUILDER
#   make image                                                 # compiled by your own cargo (the stage `prebuilt`); no other image is needed
#
# Certificate authorities and time zones are compiled in. Nothing is written: the root may be read-only.

# An image with Rust, a C compiler and the static C library.
ARG BUILDER=rust:1.95-slim-bookworm

FROM scratch AS settings
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mail-failover-operator" \
      org.opencontainers.image.description="Moves outgoing mail to a standby when a sending backend fails" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/usr/local/bin
# By number, so that the kubelet can see that it is not root (runAsNonRoot). Nothing belongs to it.
USER 65532:65532
EXPOSE 8080 8443
ENTRYPOINT ["/usr/local/bin/mail-failover"]
CMD ["run"]

FROM settings AS prebuilt
COPY target/image/mail-failover /usr/local/bin/mail-failover

FROM ${BUILDER} AS compiled
WORKDIR /src
COPY . .
RUN image/build-binary /out

FROM settings
COPY --from=compiled /out/mail-failover /usr/local/bin/mail-failover
