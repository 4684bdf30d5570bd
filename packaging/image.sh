#!/usr/bin/env bash
# Builds the container image of `gust standalone` from the release archives (make image VERSION=x, after make release).
#   BUILDER  podman, buildah or docker (default: the first that is installed and works)
#   BASE     base image (default: the Containerfile's); "bootstrap" makes one from Debian's packages with mmdebstrap, for
#            machines that reach no registry of images
#   ARCH     amd64 or arm64 (default: this machine's)
#   TAG      name of the image (default: localhost/gust:VERSION)
# podman and buildah also write dist/image/gust_VERSION_ARCH.oci.tar, which `podman load`, `skopeo` and registries take.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() { printf 'image: error: %s\n' "$*" >&2; exit 1; }
version=${1:-}
version=${version#v}
[ -n "$version" ] || die "usage: packaging/image.sh VERSION"
case ${ARCH:=$(uname -m)} in
  x86_64 | amd64) ARCH=amd64 ;;
  aarch64 | arm64) ARCH=arm64 ;;
  *) die "ARCH=$ARCH: expected amd64 or arm64" ;;
esac
release=dist/release/$version
archive=$release/gust_${version}_linux_$ARCH.tar.gz
[ -f "$archive" ] || die "$archive is missing: make release VERSION=$version"
(cd "$release" && grep -F "  $(basename "$archive")" SHA256SUMS | sha256sum --quiet -c -) || die "$archive is not what SHA256SUMS says"

builder=${BUILDER:-}
for candidate in podman buildah docker; do
  [ -z "$builder" ] || break
  command -v "$candidate" >/dev/null || continue
  case $candidate in
    docker) docker info >/dev/null 2>&1 || continue ;; # the client alone builds nothing
  esac
  builder=$candidate
done
[ -n "$builder" ] || die "no podman, buildah or running docker: apt-get install buildah"

base=()
case ${BASE:=} in
  '') ;;
  bootstrap)
    command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
    [ "$ARCH" = "$(dpkg --print-architecture)" ] || die "a base for $ARCH can be bootstrapped on such a machine only"
    root=dist/image/base_$ARCH.tar
    mkdir -p dist/image
    if [ ! -f "$root" ]; then
      echo "image: making a base from Debian's packages"
      mmdebstrap --variant=apt --include=ca-certificates,python3,python3-pip,python3-venv trixie "$root.part" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
      mv "$root.part" "$root"
    fi
    base=(--build-arg BASE=localhost/gust-base:bootstrapped)
    case $builder in
      buildah)
        c=$(buildah from scratch)
        buildah add --quiet "$c" "$root" / >/dev/null
        buildah commit --quiet "$c" localhost/gust-base:bootstrapped >/dev/null
        buildah rm "$c" >/dev/null
        ;;
      *) "$builder" import "$root" localhost/gust-base:bootstrapped >/dev/null ;;
    esac
    ;;
  *) base=(--build-arg "BASE=$BASE") ;;
esac

tag=${TAG:-localhost/gust:$version}
args=(-f packaging/Containerfile "${base[@]}" --build-arg "VERSION=$version" --platform "linux/$ARCH" -t "$tag")
case $builder in
  docker) docker build "${args[@]}" "$release" ;;
  *)
    # The commit's time, as in the archives; --format docker keeps the health check for those who know it.
    epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    "$builder" build --format docker --timestamp "$epoch" "${args[@]}" "$release"
    mkdir -p dist/image
    out=dist/image/gust_${version}_$ARCH.oci.tar
    rm -f "$out"
    "$builder" push --quiet --format oci "$tag" "oci-archive:$out:$tag" 2>/dev/null || "$builder" push --format oci "$tag" "oci-archive:$out:$tag"
    echo "image: $out ($(du -h "$out" | cut -f1))"
    ;;
esac
echo "image: $tag, built by $builder"
