#!/bin/sh
# Builds the image of deploy/Dockerfile without an engine and without a registry, and tries it: as the user that it names, on a root
# that cannot be written to, from the listeners to a refusal.
#   deploy/image.sh PROGRAM FOLDER      leaves FOLDER/tidegate.tar, an OCI archive
# Needs buildah, and root: what the image holds is run by chroot, since nothing here starts containers.
set -eu
program=$1 out=$2
here=$(dirname "$0")
bud="buildah --storage-driver vfs --root $out/storage --runroot $out/run"
rm -rf "$out/context" && mkdir -p "$out/context"
"$here/rootfs.sh" "$program" "$out/context/rootfs"
$bud build --isolation chroot --build-context "build=$out/context" -f "$here/Dockerfile" -t tidegate "$here"
rm -f "$out/tidegate.tar"
$bud push --quiet tidegate "oci-archive:$out/tidegate.tar:tidegate:latest"

container=$($bud from tidegate)
root=$($bud mount "$container")
user=$($bud inspect --format '{{.OCIv1.Config.User}}' "$container")
entry=$($bud inspect --format '{{index .OCIv1.Config.Entrypoint 0}}' "$container")
mkdir -p "$root/etc/tidegate"
cat >"$root/etc/tidegate/tidegate.yaml" <<YAML
server: { listeners: [{ address: "127.0.0.1:18080" }] }
admin: { address: "127.0.0.1:19901" }
upstreams: { api: { endpoints: ["127.0.0.1:19901"] } }
limits: [{ name: closed, per: [], max: 0 }]
YAML
# A namespace of mounts of its own: the root is bound to itself and made read-only there, and nothing is left behind.
unshare --mount sh -euc '
    mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"
    if touch "$1/etc/tidegate/x" 2>/dev/null; then echo "error: the root can be written to" >&2; exit 1; fi
    chroot --userspec="$2" "$1" "$3" serve -c /etc/tidegate/tidegate.yaml &
    gate=$!
    trap "kill $gate 2>/dev/null || true" EXIT
    tries=0
    until [ "$(curl -s -o /dev/null -w "%{http_code}" http://127.0.0.1:19901/ready)" = 200 ]; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "error: the image does not serve" >&2; exit 1; }
        sleep 0.1
    done
    uid=$(awk "/^Uid:/ { print \$2 }" /proc/$gate/status)
    [ "$uid" = "${2%%:*}" ] || { echo "error: it runs as user $uid" >&2; exit 1; }
    status=$(curl -s -o /dev/null -w "%{http_code}" http://127.0.0.1:18080/)
    [ "$status" = 503 ] || { echo "error: a closed limit answered $status" >&2; exit 1; }
    kill -TERM $gate && wait $gate
    trap - EXIT
' sh "$root" "$user" "$entry"
$bud rm "$container" >/dev/null
echo "image: $(du -h "$out/tidegate.tar" | cut -f1) as $out/tidegate.tar; it serves as user $user on a read-only root, refuses, and drains"
